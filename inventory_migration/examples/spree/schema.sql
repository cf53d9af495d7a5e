-- The tables of Spree 1.3 that stock rests on, and those of 2.0 that it moves to. As Rails makes
-- them: integer keys, varchar(255), timestamps without a time zone, and no foreign keys at all.

CREATE TABLE spree_products (
    id serial PRIMARY KEY,
    name varchar(255) NOT NULL DEFAULT '',
    description text,
    available_on timestamp,
    deleted_at timestamp,
    permalink varchar(255),
    tax_category_id integer,
    shipping_category_id integer,
    count_on_hand integer DEFAULT 0,
    on_demand boolean DEFAULT false,
    created_at timestamp NOT NULL,
    updated_at timestamp NOT NULL
);
CREATE INDEX ON spree_products (permalink);
CREATE INDEX ON spree_products (deleted_at);

CREATE TABLE spree_variants (
    id serial PRIMARY KEY,
    sku varchar(255) NOT NULL DEFAULT '',
    weight numeric(8, 2),
    height numeric(8, 2),
    width numeric(8, 2),
    depth numeric(8, 2),
    deleted_at timestamp,
    is_master boolean DEFAULT false,
    product_id integer,
    count_on_hand integer DEFAULT 0,
    cost_price numeric(8, 2),
    cost_currency varchar(255),
    position integer,
    lock_version integer DEFAULT 0,
    on_demand boolean DEFAULT false
);
CREATE INDEX ON spree_variants (product_id);

CREATE TABLE spree_orders (
    id serial PRIMARY KEY,
    number varchar(15),
    state varchar(255),
    completed_at timestamp,
    shipment_state varchar(255),
    created_at timestamp NOT NULL,
    updated_at timestamp NOT NULL
);
CREATE INDEX ON spree_orders (number);

CREATE TABLE spree_line_items (
    id serial PRIMARY KEY,
    variant_id integer,
    order_id integer,
    quantity integer NOT NULL,
    price numeric(8, 2) NOT NULL,
    created_at timestamp NOT NULL,
    updated_at timestamp NOT NULL
);
CREATE INDEX ON spree_line_items (order_id);
CREATE INDEX ON spree_line_items (variant_id);

-- stock_location_id is a column of 2.0.
CREATE TABLE spree_shipments (
    id serial PRIMARY KEY,
    tracking varchar(255),
    number varchar(255),
    cost numeric(8, 2),
    shipped_at timestamp,
    order_id integer,
    shipping_method_id integer,
    address_id integer,
    state varchar(255),
    stock_location_id integer,
    created_at timestamp NOT NULL,
    updated_at timestamp NOT NULL
);
CREATE INDEX ON spree_shipments (order_id);

-- A row for each unit of a completed order.
CREATE TABLE spree_inventory_units (
    id serial PRIMARY KEY,
    lock_version integer DEFAULT 0,
    state varchar(255),
    variant_id integer,
    order_id integer,
    shipment_id integer,
    return_authorization_id integer,
    created_at timestamp NOT NULL,
    updated_at timestamp NOT NULL
);
CREATE INDEX ON spree_inventory_units (variant_id);
CREATE INDEX ON spree_inventory_units (order_id);
CREATE INDEX ON spree_inventory_units (shipment_id);

CREATE TABLE spree_stock_locations (
    id serial PRIMARY KEY,
    name varchar(255),
    address1 varchar(255),
    address2 varchar(255),
    city varchar(255),
    state_name varchar(255),
    zipcode varchar(255),
    phone varchar(255),
    state_id integer,
    country_id integer,
    active boolean DEFAULT true,
    backorderable_default boolean DEFAULT false,
    propagate_all_variants boolean DEFAULT true,
    admin_name varchar(255),
    created_at timestamp NOT NULL,
    updated_at timestamp NOT NULL
);

-- The default of backorderable is the one that 2.0 has; the unique index is that of later releases.
CREATE TABLE spree_stock_items (
    id serial PRIMARY KEY,
    stock_location_id integer,
    variant_id integer,
    count_on_hand integer NOT NULL DEFAULT 0,
    backorderable boolean DEFAULT true,
    deleted_at timestamp,
    created_at timestamp NOT NULL,
    updated_at timestamp NOT NULL
);
CREATE INDEX ON spree_stock_items (stock_location_id);
CREATE UNIQUE INDEX ON spree_stock_items (variant_id, stock_location_id) WHERE deleted_at IS NULL;

CREATE TABLE spree_stock_movements (
    id serial PRIMARY KEY,
    stock_item_id integer,
    quantity integer DEFAULT 0,
    action varchar(255),
    originator_type varchar(255),
    originator_id integer,
    created_at timestamp NOT NULL,
    updated_at timestamp NOT NULL
);
CREATE INDEX ON spree_stock_movements (stock_item_id);
