-- The tables of Medusa 1.7 that stock rests on, and those that its modules of 1.8 for inventory and
-- stock locations bring. Every key is a text that the application makes; what is deleted keeps its
-- row and gets a time in deleted_at; between the modules there are no foreign keys.

CREATE TABLE product (
    id varchar PRIMARY KEY,
    title varchar NOT NULL,
    handle varchar,
    is_giftcard boolean NOT NULL DEFAULT false,
    status varchar NOT NULL DEFAULT 'draft',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);

CREATE TABLE product_variant (
    id varchar PRIMARY KEY,
    title varchar NOT NULL,
    product_id varchar NOT NULL REFERENCES product,
    sku varchar,
    barcode varchar,
    inventory_quantity integer NOT NULL,
    allow_backorder boolean NOT NULL DEFAULT false,
    manage_inventory boolean NOT NULL DEFAULT true,
    hs_code varchar,
    origin_country varchar,
    mid_code varchar,
    material varchar,
    weight integer,
    length integer,
    height integer,
    width integer,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    metadata jsonb
);
CREATE UNIQUE INDEX ON product_variant (sku) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX ON product_variant (barcode) WHERE deleted_at IS NULL;
CREATE INDEX ON product_variant (product_id);

CREATE TABLE "order" (
    id varchar PRIMARY KEY,
    status varchar NOT NULL DEFAULT 'pending',
    fulfillment_status varchar NOT NULL DEFAULT 'not_fulfilled',
    created_at timestamptz NOT NULL DEFAULT now(),
    canceled_at timestamptz
);

CREATE TABLE line_item (
    id varchar PRIMARY KEY,
    order_id varchar REFERENCES "order",
    cart_id varchar,
    swap_id varchar,
    variant_id varchar REFERENCES product_variant,
    title varchar NOT NULL,
    quantity integer NOT NULL CHECK (quantity > 0),
    fulfilled_quantity integer,
    returned_quantity integer,
    shipped_quantity integer
);
CREATE INDEX ON line_item (order_id);
CREATE INDEX ON line_item (variant_id);

CREATE TABLE sales_channel (
    id varchar PRIMARY KEY,
    name varchar NOT NULL,
    is_disabled boolean NOT NULL DEFAULT false,
    deleted_at timestamptz
);

CREATE TABLE product_sales_channel (
    product_id varchar NOT NULL REFERENCES product,
    sales_channel_id varchar NOT NULL REFERENCES sales_channel,
    PRIMARY KEY (product_id, sales_channel_id)
);

-- default_location_id is a column of 1.8.
CREATE TABLE store (
    id varchar PRIMARY KEY,
    name varchar NOT NULL DEFAULT 'Medusa Store',
    default_location_id varchar
);

CREATE TABLE stock_location (
    id varchar PRIMARY KEY,
    name text NOT NULL,
    address_id text,
    metadata jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);

CREATE TABLE sales_channel_location (
    id varchar PRIMARY KEY,
    sales_channel_id text NOT NULL,
    location_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);
CREATE INDEX ON sales_channel_location (location_id);

CREATE TABLE inventory_item (
    id varchar PRIMARY KEY,
    sku text,
    origin_country text,
    hs_code text,
    mid_code text,
    material text,
    weight integer,
    length integer,
    height integer,
    width integer,
    requires_shipping boolean NOT NULL DEFAULT true,
    metadata jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);
CREATE UNIQUE INDEX ON inventory_item (sku) WHERE deleted_at IS NULL;

CREATE TABLE product_variant_inventory_item (
    id varchar PRIMARY KEY,
    variant_id text NOT NULL,
    inventory_item_id text NOT NULL,
    required_quantity integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    UNIQUE (variant_id, inventory_item_id)
);
CREATE INDEX ON product_variant_inventory_item (inventory_item_id);

CREATE TABLE inventory_level (
    id varchar PRIMARY KEY,
    inventory_item_id text NOT NULL,
    location_id text NOT NULL,
    stocked_quantity integer NOT NULL DEFAULT 0,
    reserved_quantity integer NOT NULL DEFAULT 0,
    incoming_quantity integer NOT NULL DEFAULT 0,
    metadata jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    UNIQUE (inventory_item_id, location_id)
);
CREATE INDEX ON inventory_level (location_id);

CREATE TABLE reservation_item (
    id varchar PRIMARY KEY,
    line_item_id text,
    inventory_item_id text NOT NULL,
    location_id text NOT NULL,
    quantity integer NOT NULL,
    external_id varchar,
    metadata jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);
CREATE INDEX ON reservation_item (line_item_id);
CREATE INDEX ON reservation_item (inventory_item_id);
