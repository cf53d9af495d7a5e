-- The tables of Saleor 2.9 that stock rests on, and those of 2.10 that it moves to. Django's types:
-- its defaults are no defaults of the database, and its foreign keys are checked at the commit.

CREATE TABLE account_address (
    id serial PRIMARY KEY,
    company_name varchar(256) NOT NULL,
    street_address_1 varchar(256) NOT NULL,
    city varchar(256) NOT NULL,
    postal_code varchar(20) NOT NULL,
    country varchar(2) NOT NULL
);

CREATE TABLE django_site (
    id serial PRIMARY KEY,
    domain varchar(100) NOT NULL UNIQUE,
    name varchar(50) NOT NULL
);

CREATE TABLE site_sitesettings (
    id serial PRIMARY KEY,
    site_id integer NOT NULL UNIQUE REFERENCES django_site DEFERRABLE INITIALLY DEFERRED,
    company_address_id integer REFERENCES account_address DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE product_producttype (
    id serial PRIMARY KEY,
    name varchar(128) NOT NULL,
    has_variants boolean NOT NULL,
    is_shipping_required boolean NOT NULL,
    is_digital boolean NOT NULL
);

CREATE TABLE product_product (
    id serial PRIMARY KEY,
    product_type_id integer NOT NULL REFERENCES product_producttype DEFERRABLE INITIALLY DEFERRED,
    name varchar(128) NOT NULL,
    is_published boolean NOT NULL,
    publication_date date,
    price_amount numeric(12, 2) NOT NULL,
    currency varchar(10) NOT NULL,
    updated_at timestamptz
);
CREATE INDEX ON product_product (product_type_id);

-- No CHECK keeps a quantity from going below nothing.
CREATE TABLE product_productvariant (
    id serial PRIMARY KEY,
    sku varchar(255) NOT NULL UNIQUE,
    name varchar(255) NOT NULL,
    product_id integer NOT NULL REFERENCES product_product DEFERRABLE INITIALLY DEFERRED,
    track_inventory boolean NOT NULL,
    quantity integer NOT NULL,
    quantity_allocated integer NOT NULL,
    cost_price_amount numeric(12, 2),
    price_override_amount numeric(12, 2),
    weight double precision
);
CREATE INDEX ON product_productvariant (product_id);

CREATE TABLE shipping_shippingzone (
    id serial PRIMARY KEY,
    name varchar(100) NOT NULL,
    countries varchar(749) NOT NULL,
    "default" boolean NOT NULL
);

CREATE TABLE shipping_shippingmethod (
    id serial PRIMARY KEY,
    name varchar(100) NOT NULL,
    shipping_zone_id integer NOT NULL
        REFERENCES shipping_shippingzone DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE order_order (
    id serial PRIMARY KEY,
    created timestamptz NOT NULL,
    status varchar(32) NOT NULL,
    token varchar(36) NOT NULL UNIQUE,
    shipping_method_id integer REFERENCES shipping_shippingmethod DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE order_orderline (
    id serial PRIMARY KEY,
    order_id integer NOT NULL REFERENCES order_order DEFERRABLE INITIALLY DEFERRED,
    variant_id integer REFERENCES product_productvariant DEFERRABLE INITIALLY DEFERRED,
    product_sku varchar(255) NOT NULL,
    quantity integer NOT NULL,
    quantity_fulfilled integer NOT NULL
);
CREATE INDEX ON order_orderline (order_id);
CREATE INDEX ON order_orderline (variant_id);

CREATE TABLE warehouse_warehouse (
    id uuid PRIMARY KEY,
    name varchar(250) NOT NULL,
    slug varchar(255) NOT NULL UNIQUE,
    company_name varchar(255) NOT NULL,
    email varchar(254) NOT NULL,
    address_id integer NOT NULL REFERENCES account_address DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE warehouse_warehouse_shipping_zones (
    id serial PRIMARY KEY,
    warehouse_id uuid NOT NULL REFERENCES warehouse_warehouse DEFERRABLE INITIALLY DEFERRED,
    shippingzone_id integer NOT NULL
        REFERENCES shipping_shippingzone DEFERRABLE INITIALLY DEFERRED,
    UNIQUE (warehouse_id, shippingzone_id)
);

CREATE TABLE warehouse_stock (
    id serial PRIMARY KEY,
    warehouse_id uuid NOT NULL REFERENCES warehouse_warehouse DEFERRABLE INITIALLY DEFERRED,
    product_variant_id integer NOT NULL
        REFERENCES product_productvariant DEFERRABLE INITIALLY DEFERRED,
    quantity integer NOT NULL CHECK (quantity >= 0),
    quantity_allocated integer NOT NULL CHECK (quantity_allocated >= 0),
    UNIQUE (warehouse_id, product_variant_id)
);
CREATE INDEX ON warehouse_stock (product_variant_id);

CREATE TABLE warehouse_allocation (
    id serial PRIMARY KEY,
    order_line_id integer NOT NULL REFERENCES order_orderline DEFERRABLE INITIALLY DEFERRED,
    stock_id integer NOT NULL REFERENCES warehouse_stock DEFERRABLE INITIALLY DEFERRED,
    quantity_allocated integer NOT NULL CHECK (quantity_allocated >= 0),
    UNIQUE (order_line_id, stock_id)
);
CREATE INDEX ON warehouse_allocation (stock_id);
