"""What hangs on a mapping's tables is found once each, with what a migration really does to it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest
import sqlalchemy as sa

from inventory_migration import verbs
from inventory_migration.audit import diagram
from inventory_migration.audit.dependencies import Dependencies, examine
from inventory_migration.audit.readers import names_table, without_comments
from inventory_migration.catalog import ResolvedMapping, resolve
from inventory_migration.demo import create_demo
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.engine.plan import Start
from inventory_migration.examples.catalogue import EXAMPLES
from inventory_migration.mapping import StockMapping, named_mapping, parse_mapping
from inventory_migration_tests.conftest import Database, made_database
from inventory_migration_tests.test_real_data import needs_data, northwind, saleor

SHOP = '"Sh:op %s"'
ITEMS = f'{SHOP}."Stock <Item>"'

HOSTILE = f"""
    CREATE SCHEMA {SHOP};
    CREATE SCHEMA "user";
    CREATE TABLE {SHOP}."Company" (id int PRIMARY KEY, name text NOT NULL);
    CREATE TABLE "user"."order" (
        id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        "Company" int NOT NULL REFERENCES {SHOP}."Company" ON DELETE CASCADE,
        is_default boolean NOT NULL DEFAULT false,
        name text,
        CONSTRAINT one_default EXCLUDE USING btree ("Company" WITH =) WHERE (is_default),
        CONSTRAINT named CHECK (name <> ''));
    CREATE TABLE {ITEMS} (
        id int PRIMARY KEY,
        "Company" int REFERENCES {SHOP}."Company",
        sku text NOT NULL,
        quantity int,
        reserved int DEFAULT 0,
        "select" int CONSTRAINT at_place REFERENCES "user"."order" ON DELETE RESTRICT,
        parent int CONSTRAINT of_parent REFERENCES {ITEMS} ON DELETE SET NULL,
        twice int GENERATED ALWAYS AS (quantity * 2) STORED,
        place text GENERATED ALWAYS AS ('at ' || "select") STORED,
        CONSTRAINT positive CHECK (quantity >= 0),
        CONSTRAINT in_range CHECK ("select" > 0)
    ) PARTITION BY RANGE (id);
    CREATE TABLE "user"."Items.1" PARTITION OF {ITEMS} DEFAULT;
    ALTER TABLE "user"."Items.1" ADD CONSTRAINT old_rows CHECK (sku <> 'x') NOT VALID;
    CREATE UNIQUE INDEX one_per_place ON "user"."Items.1" (sku, "select") WHERE parent IS NULL;
    CREATE INDEX by_sku ON {ITEMS} (lower(sku));
    CREATE INDEX by_place ON {ITEMS} ((coalesce("select", 0)));
    CREATE STATISTICS {SHOP}.together ON sku, "Company" FROM {ITEMS};

    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.sku := upper(NEW.sku); RETURN NEW; END $$;
    CREATE FUNCTION secret_work() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
        $$ BEGIN EXECUTE 'SELECT 1'; RETURN NEW; END $$;
    CREATE TRIGGER touched BEFORE UPDATE ON {ITEMS} FOR EACH ROW EXECUTE FUNCTION touch();
    CREATE TRIGGER dynamic BEFORE UPDATE OF "select" ON {ITEMS}
        FOR EACH ROW EXECUTE FUNCTION secret_work();
    CREATE TRIGGER counted BEFORE UPDATE OF quantity ON {ITEMS}
        FOR EACH ROW EXECUTE FUNCTION touch();
    CREATE TRIGGER off BEFORE UPDATE ON {ITEMS} FOR EACH ROW EXECUTE FUNCTION touch();
    ALTER TABLE {ITEMS} DISABLE TRIGGER off;
    CREATE TRIGGER leaving AFTER DELETE ON "user"."order"
        FOR EACH ROW EXECUTE FUNCTION secret_work();

    CREATE TRIGGER all_rows BEFORE UPDATE ON "user"."Items.1" EXECUTE FUNCTION secret_work();
    CREATE RULE aside AS ON DELETE TO "user"."Items.1" DO ALSO NOTHING;

    CREATE TABLE {SHOP}.journal (sku text);
    CREATE RULE also AS ON INSERT TO {SHOP}.journal
        DO ALSO UPDATE {ITEMS} SET reserved = 0 WHERE sku = NEW.sku;

    CREATE VIEW {SHOP}.placed AS SELECT id, sku, "select" FROM {ITEMS};
    CREATE VIEW {SHOP}.placed_again AS SELECT id FROM {SHOP}.placed;
    CREATE VIEW {SHOP}.amounts AS SELECT c.name, i.quantity
        FROM {ITEMS} i JOIN {SHOP}."Company" c ON c.id = i."Company";
    CREATE MATERIALIZED VIEW {SHOP}.kept AS SELECT * FROM {SHOP}.placed;
    CREATE VIEW {SHOP}.of_kept AS SELECT * FROM {SHOP}.kept;
    CREATE MATERIALIZED VIEW {SHOP}.names AS SELECT sku FROM {ITEMS} WITH NO DATA;
    CREATE VIEW {SHOP}.elsewhere AS SELECT sku FROM {SHOP}.journal;

    CREATE FUNCTION parsed() RETURNS bigint LANGUAGE sql
        BEGIN ATOMIC SELECT count("select") FROM {ITEMS}; END;
    CREATE FUNCTION restock() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
        -- not into {SHOP}."Company"
        INSERT INTO {ITEMS}(id, sku) VALUES (1, 'a'); END $$;
    CREATE FUNCTION of_row({ITEMS}) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION innocent() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
        /* {ITEMS} */ RETURN (SELECT 1 ORDER BY 1) || "other"."Stock <Item>"(1); END $$;

    ALTER TABLE {ITEMS} ENABLE ROW LEVEL SECURITY;
    CREATE POLICY by_place ON {ITEMS} FOR SELECT USING ("select" = 1);
    CREATE POLICY by_item ON {SHOP}.journal USING (sku IN (SELECT sku FROM {ITEMS}));
    CREATE PUBLICATION items FOR TABLE {ITEMS};
    CREATE ROLE im_reader;
    GRANT SELECT ON {ITEMS} TO im_reader;

    CREATE TABLE {SHOP}.shipment_lines (stock_item_id int, qty int, "order" int
        REFERENCES "user"."order");
    CREATE TABLE {SHOP}.notes (id int, item int REFERENCES {ITEMS}, note text);
    CREATE TABLE {SHOP}.reservation (id int, item int REFERENCES {ITEMS});
    CREATE TABLE {SHOP}.item (id int);
    CREATE TABLE {SHOP}.other_lines (item_id int, quantity int, stock_item_ids int[]);
"""

MAPPING = {
    "name": "hostile",
    "company": {"table": {"schema": "Sh:op %s", "name": "Company"}, "key": "id", "name": "name"},
    "locations": {
        "table": {"schema": "user", "name": "order"},
        "key": "id",
        "company": "Company",
        "default": {"is_default": True},
        "create": {"name": "Main"},
    },
    "source": {
        "table": {"schema": "Sh:op %s", "name": "Stock <Item>"},
        "key": "id",
        "company": "Company",
        "item": "sku",
        "quantity": "quantity",
        "reserved": "reserved",
    },
    "target": {"shape": "location_column", "column": "select"},
}

# What each object is told: its concern, and words of what the migration does to it.
EXPECTED = {
    ("primary key", "Company_pkey"): ("untouched", "only read"),
    ("primary key", "order_pkey"): ("to know", "holds each new row against it"),
    ("primary key", "Stock <Item>_pkey"): ("untouched", "Cannot be broken"),
    ("exclusion constraint", "one_default"): ("to know", "each new row"),
    ("check constraint", "named"): ("to know", "each new row"),
    ("check constraint", "positive"): ("untouched", "No column of it is written"),
    ("check constraint", "in_range"): ("to do", "refused_by_server"),
    ("check constraint", "old_rows"): ("to do", "never validated"),
    ("foreign key", "order_Company_fkey"): ("to know", "looks it up for each new row"),
    ("foreign key", "Stock <Item>_Company_fkey"): ("untouched", "Company is not written"),
    ("foreign key", "at_place"): ("to know", "looks up each select"),
    ("foreign key", "of_parent"): ("untouched", "parent is not written"),
    ("foreign key", "notes_item_fkey"): ("untouched", "counted before and after"),
    ("foreign key", "reservation_item_fkey"): ("untouched", "the same rows"),
    ("foreign key", "shipment_lines_order_fkey"): ("untouched", "the same rows"),
    ("index", "one_per_place"): ("to do", "select is part of it"),
    ("index", "by_sku"): ("untouched", "since by_place holds"),
    ("index", "by_place"): ("to know", "each written row gets a new entry"),
    ("extended statistics", "together"): ("untouched", "Nothing that it measures"),
    ("trigger", "touched"): ("to do", "It sets sku: where that changes what is moved"),
    ("trigger", "dynamic"): ("to do", "cannot be read"),
    ("trigger", "counted"): ("untouched", "quantity is written, which is not"),
    ("trigger", "off"): ("untouched", "disabled"),
    ("trigger", "leaving"): ("untouched", "Only a rollback"),
    ("trigger", "all_rows"): ("untouched", "for statements on a partition"),
    ("rule", "aside"): ("untouched", "on a partition"),
    ("rule", "also"): ("untouched", "journal is written"),
    ("view", "Sh:op %s.placed"): ("to know", "Shows select of Stock <Item> at once"),
    ("view", "Sh:op %s.placed_again"): ("to know", "through Sh:op %s.placed"),
    ("view", "Sh:op %s.amounts"): ("untouched", "Reads nothing that is written"),
    ("materialized view", "Sh:op %s.kept"): ("to do", "REFRESH MATERIALIZED VIEW"),
    ("view", "Sh:op %s.of_kept"): ("to know", "right once that is refreshed"),
    ("materialized view", "Sh:op %s.names"): ("untouched", "Reads nothing that is written"),
    ("function", "parsed()"): ("to know", "may see what is written"),
    ("function", "restock()"): ("to do", 'without select'),
    ("function", 'of_row("Sh:op %s"."Stock <Item>")'): ("to know", "may see what is written"),
    ("row level security", "Sh:op %s.Stock <Item>"): ("untouched", "not subject to it"),
    ("policy", "by_place"): ("to do", "decides by select"),
    ("policy", "by_item"): ("untouched", "who sees what stays"),
    ("publication", "items"): ("to know", "sent to its subscribers"),
    ("partitions", "Sh:op %s.Stock <Item>"): ("untouched", "1 partition; no row moves"),
    ("generated column", "twice"): ("untouched", "its value stays"),
    ("generated column", "place"): ("to know", "Follows select"),
    ("sequence", "user.order_id_seq"): ("to know", "Gives each new row its id"),
    ("not null", "id, name"): ("untouched", "Not written"),
    ("not null", "Company, is_default"): ("to know", "given a value"),
    ("not null", "id"): ("untouched", "have its default"),
    ("not null", "id, sku"): ("untouched", "Not written"),
}  # fmt: skip


@pytest.fixture(scope="module")
def hostile(server: EmbeddedServer) -> Iterator[Database]:
    """A database in which everything that can hang on a table does."""
    with made_database(server) as made:
        made.psql(HOSTILE)
        yield made
        made.psql("DROP OWNED BY im_reader; DROP ROLE im_reader")


def resolved_in(connection: sa.Connection, mapping: StockMapping) -> ResolvedMapping:
    connection.execute(sa.text("SET TRANSACTION READ ONLY"))
    return resolve(connection, mapping)


def examined(database: Database, mapping: StockMapping, *, role: str = "") -> Dependencies:
    with database.engine.connect() as connection:
        resolved = resolved_in(connection, mapping)
        if role:
            connection.execute(sa.text(f"SET LOCAL ROLE {role}"))
        return examine(connection, resolved)


def hostile_mapping(**more: Any) -> StockMapping:
    return StockMapping.model_validate({**MAPPING, **more})


def test_each_object_appears_once_with_what_the_migration_does_to_it(hostile: Database) -> None:
    found = examined(hostile, hostile_mapping())
    told = Counter((one.kind, one.name) for one in found.objects)
    assert told == Counter(EXPECTED.keys())
    for one in found.objects:
        concern, words = EXPECTED[one.kind, one.name]
        assert (one.concern, words in one.effect) == (concern, True), one
    assert [one.concern for one in found.objects] == sorted(
        (one.concern for one in found.objects), key=["to do", "to know", "untouched"].index
    )


def test_a_function_is_a_guess_only_where_its_text_alone_tells(hostile: Database) -> None:
    found = examined(hostile, hostile_mapping())
    guessed = [one.name for one in found.objects if one.guess]
    assert guessed == ["restock()"]
    assert "(A guess: its text has the name.)" in found.to_markdown()
    (reading,) = (one for one in found.objects if one.name == "parsed()")
    assert reading.columns == ("select",)
    (view,) = (one for one in found.objects if one.name.endswith(".amounts"))
    assert view.columns == ("Stock <Item>.Company", "Stock <Item>.quantity", "Company.id",
                            "Company.name")  # fmt: skip


@pytest.mark.one_server
@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("SELECT * FROM stock_items", True),
        ("select * from SHOP . Stock_Items s", True),
        ('SELECT FROM "shop"."stock_items"', True),
        ("INSERT INTO stock_items(a) SELECT 1", True),
        ("EXECUTE 'DELETE FROM stock_items'", True),
        ("x stock_items%ROWTYPE;", True),
        ("SELECT FROM other.stock_items", False),
        ("SELECT s.stock_items FROM s", False),
        ("SELECT stock_items(1)", False),
        ("SELECT FROM old_stock_items, stock_items_old", False),
        ('SELECT FROM "Stock_Items"', False),
        ("SELECT 1 -- from stock_items\n", False),
        ("/* stock_items */ SELECT '-- no comment'", False),
    ],
)
def test_a_table_is_named_by_a_word_of_its_own(code: str, names: bool) -> None:
    assert names_table(without_comments(code), "shop", "stock_items") is names


def test_child_tables_are_those_that_belong_to_a_record(hostile: Database) -> None:
    found = {child.table: child for child in examined(hostile, hostile_mapping()).children}
    assert set(found) == {
        "Sh:op %s.shipment_lines",
        "Sh:op %s.notes",
        "Sh:op %s.reservation",
    }
    lines = found["Sh:op %s.shipment_lines"]
    assert (lines.columns, lines.known_by) == (("stock_item_id",), "the column's name")
    assert (lines.quantities, lines.locations) == (("qty",), ("order",))
    assert "which the migration does not fill" in lines.advice
    notes = found["Sh:op %s.notes"]
    assert (notes.known_by, notes.concern) == ("a foreign key", "untouched")
    assert "join by item" in found["Sh:op %s.reservation"].advice


def test_a_partition_that_a_mapping_names_is_told_to_be_one(hostile: Database) -> None:
    source = {**MAPPING["source"], "table": {"schema": "user", "name": "Items.1"}}  # type: ignore[dict-item]
    # As a table of the mapping's own it must have none.
    hostile.psql('DROP RULE aside ON "user"."Items.1"')
    try:
        there = examined(hostile, hostile_mapping(source=source))
        added = {"shape": "location_column", "column": "place2", "add": True}
        new = examined(hostile, hostile_mapping(source=source, target=added))
    finally:
        hostile.psql('CREATE RULE aside AS ON DELETE TO "user"."Items.1" DO ALSO NOTHING')
    name = "partition of Sh:op %s.Stock <Item>"
    assert effects(there)[name] == (
        "to know", "Records of its other partitions stay where they are."
    )  # fmt: skip
    assert effects(new)[name][0] == "to do"
    assert "adds no column to a partition alone" in effects(new)[name][1]
    assert effects(there)["trigger all_rows"][0] == "to do"


def test_what_a_role_may_not_read_is_said(hostile: Database) -> None:
    hostile.psql("REVOKE SELECT ON pg_policy FROM PUBLIC")
    try:
        found = examined(hostile, hostile_mapping(), role="im_reader")
    finally:
        hostile.psql("GRANT SELECT ON pg_policy TO PUBLIC")
    assert any("permission denied for table pg_policy" in line for line in found.unread)
    assert {one.kind for one in found.objects}.isdisjoint({"policy"})
    assert any(line.startswith("Schema Sh:op %s: postgres may not") for line in found.unread)
    hostile.psql(f'GRANT USAGE ON SCHEMA {SHOP}, "user" TO im_reader')
    found = examined(hostile, hostile_mapping(), role="im_reader")
    closed = [line for line in found.unread if "may not read its rows" in line]
    assert len(closed) == len(found.children) == 3
    assert len(found.objects) == len(EXPECTED)


def test_a_demo_has_nothing_to_do_and_each_column_is_mapped(database: Database) -> None:
    create_demo(database.engine, companies=2, items=20)
    found = examined(database, named_mapping("stock_items"))
    assert [one for one in found.objects if one.concern == "to do"] == []
    assert [(child.table, child.concern) for child in found.children] == [
        ("public.order_lines", "to know")
    ]
    fields = {(one.table, one.column): one for one in found.fields}
    location = fields["public.stock_items", "location_id"]
    assert (location.before, location.after) == ("", "bigint")
    assert location.value.startswith("locations.id of the default location")
    kept = [one for one in found.fields if one.table == "public.stock_items" and not one.changed]
    assert {one.value for one in kept} == {"stays as it is"}
    assert len(kept) == 10
    assert fields["public.locations", "code"].value == "always 'MAIN'"
    batches = examined(database, named_mapping("inventory_batches"))
    assert batches.children == ()
    written = {one.column: one.value for one in batches.fields if one.changed}
    assert written["storeAllocations → <location> → allocated"] == (
        "public.InventoryBatch.remainingQuantity"
    )
    assert written["storeAllocations → <location> → updatedBy"] == "always 'SYSTEM_MIGRATION'"
    assert set(written) >= {"storeAllocations", "transferRequests"}


def test_a_child_that_another_mapping_moves_is_told_to_be_covered(database: Database) -> None:
    create_demo(database.engine, companies=1, items=5)
    lines = levels_mapping().model_dump(by_alias=True)
    lines["source"]["table"] = {"schema": None, "name": "order_lines"}
    with database.engine.connect() as connection:
        resolved = resolved_in(connection, named_mapping("stock_items"))
        found = examine(connection, resolved, others=[StockMapping.model_validate(lines)])
    assert [child.covered for child in found.children] == ["records of the mapping levels"]


def test_pictures_and_text_hold_hostile_names_as_text(hostile: Database) -> None:
    found = examined(hostile, hostile_mapping())
    for drawn in (found.before, found.after):
        picture = diagram.svg(drawn)
        ElementTree.fromstring(picture)  # noqa: S314 - our own
        assert "Stock &lt;Item&gt;" in picture
        text = diagram.mermaid(drawn)
        assert "<" not in text
        for line in text.splitlines()[1:]:
            assert re.fullmatch(
                r'    t\d+\["[^"]*"\] \{|    \}|    t\d+ \}o(--|\.\.)\|\| t\d+ : "[^"]*"'
                r'|        [A-Za-z_]\w* [A-Za-z_]\w*( PK)?( "[^"]*")?',
                line,
            ), line
    assert "~ select: integer" in diagram.svg(found.after)
    assert "select: integer" in diagram.svg(found.before)
    json.dumps(found.to_json())
    assert "<Item>" not in re.sub(r"\\.", "", found.to_markdown())


LEVELS = """
    CREATE TABLE companies (id int PRIMARY KEY, name text);
    CREATE TABLE places (id int PRIMARY KEY, company_id int, is_default boolean);
    CREATE TABLE items (id int PRIMARY KEY, company_id int, sku text UNIQUE, quantity int,
                        held int DEFAULT 0, CONSTRAINT named CHECK (sku <> '') NOT VALID);
    CREATE TABLE levels (
        item_id int REFERENCES items, place_id int REFERENCES places,
        on_hand int NOT NULL CONSTRAINT not_negative CHECK (on_hand >= 0),
        note text NOT NULL DEFAULT '' CHECK (note <> 'x'),
        free int GENERATED ALWAYS AS (on_hand) STORED,
        PRIMARY KEY (item_id, place_id));
    CREATE INDEX by_note ON levels (note);
    CREATE TABLE level_moves (
        item_id int, place_id int, delta_quantity int,
        FOREIGN KEY (item_id, place_id) REFERENCES levels ON DELETE CASCADE);
    CREATE TABLE picks (
        item_id int, place_id int, units int,
        FOREIGN KEY (item_id, place_id) REFERENCES levels);
    CREATE TABLE shipments (id int PRIMARY KEY, sent date);
    CREATE TABLE shipped_units (item_id int, shipment_id int, amount_units int);
    CREATE VIEW stock AS SELECT sum(quantity) AS units FROM items;
    CREATE VIEW stock_again AS SELECT units FROM stock;
    CREATE VIEW stock_now AS SELECT i.quantity, l.on_hand FROM items i JOIN levels l
        ON l.item_id = i.id;
    CREATE MATERIALIZED VIEW stock_kept AS SELECT sum(on_hand) AS units FROM levels;
    CREATE FUNCTION sell() RETURNS void LANGUAGE sql AS 'UPDATE items SET quantity = quantity - 1';
    CREATE FUNCTION report() RETURNS bigint LANGUAGE sql AS 'SELECT sum(quantity) FROM items';
    CREATE FUNCTION names() RETURNS text LANGUAGE sql AS 'SELECT min(sku) FROM items';
    CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER counts AFTER UPDATE OF on_hand ON levels
        FOR EACH ROW EXECUTE FUNCTION quiet();
    CREATE TRIGGER comes BEFORE INSERT ON levels FOR EACH ROW EXECUTE FUNCTION quiet();
"""


def levels_mapping(**target: Any) -> StockMapping:
    return StockMapping.model_validate(
        {
            "name": "levels",
            "company": {"table": "companies", "key": "id", "name": "name"},
            "locations": {"table": "places", "key": "id", "company": "company_id",
                          "default": {"is_default": True}},
            "source": {"table": "items", "key": "id", "company": "company_id", "item": "sku",
                       "quantity": "quantity", "reserved": "held"},
            "target": {"shape": "stock_level", "table": "levels", "record": {"item_id": "id"},
                       "location": "place_id", "on_hand": "on_hand", **target},
        }
    )  # fmt: skip


def effects(found: Dependencies) -> dict[str, tuple[str, str]]:
    return {f"{one.kind} {one.name}": (one.concern, one.effect) for one in found.objects}


def test_a_move_to_levels_tells_who_goes_on_reading_and_writing_the_records(
    database: Database,
) -> None:
    database.psql(LEVELS)
    found = examined(database, levels_mapping())
    told = effects(found)
    for name, concern, words in [
        ("view stock", "to do", "quantity of items, where the application will keep no stock"),
        ("view stock_again", "to do", "through stock: as far as it uses that"),
        ("view stock_now", "to know", "new rows of levels"),
        ("materialized view stock_kept", "to do", "REFRESH MATERIALIZED VIEW"),
        ("function sell()", "to do", "it must write levels once"),
        ("function report()", "to do", "It reads quantity of items"),
        ("function names()", "untouched", "nothing that is written"),
        ("check constraint not_negative", "to do", "refused_by_server"),
        ("check constraint levels_note_check", "untouched", "columns' defaults"),
        ("check constraint named", "untouched", "No column of a record is written"),
        ("unique constraint items_sku_key", "untouched", "No column of a record is written"),
        ("primary key levels_pkey", "to know", "two levels at one location"),
        ("index by_note", "untouched", "Each new row gets an entry"),
        ("generated column free", "untouched", "computes it for each new row"),
        ("foreign key level_moves_item_id_place_id_fkey", "to do", "follows by CASCADE"),
        ("foreign key picks_item_id_place_id_fkey", "to know", "keeps a level that is referred"),
        ("foreign key levels_item_id_fkey", "to know", "for each new row"),
        ("trigger counts", "untouched", "UPDATE, which the migration does not do"),
        ("trigger comes", "to know", "not seen to write anything"),
        ("not null note", "untouched", "have its default"),
    ]:
        assert told[name][0] == concern, (name, told[name])
        assert words in told[name][1], (name, told[name])
    children = {child.table: child for child in found.children}
    assert {name: child.kind for name, child in children.items()} == {
        "public.level_moves": "level",
        "public.picks": "level",
        "public.shipped_units": "record",
        "public.shipments": "rows",
    }
    assert children["public.shipped_units"].concern == "to do"
    assert children["public.shipments"].columns == ("shipment_id",)
    kept = examined(database, levels_mapping(reserved=None, sync=True))
    assert effects(kept)["trigger counts"][1].startswith("Fires where the trigger of sync")
    assert effects(kept)["function sell()"][0] == "to know"


def test_what_is_told_of_levels_comes_true_there_and_back(database: Database) -> None:
    database.psql(
        LEVELS
        + """
        INSERT INTO companies VALUES (1, 'a');
        INSERT INTO places VALUES (1, 1, true);
        INSERT INTO items VALUES (1, 1, 'a', 5), (2, 1, 'b', 6), (3, 1, 'c', -1);
        REFRESH MATERIALIZED VIEW stock_kept;"""
    )
    target, mapping = verbs.open_target(database.url), levels_mapping()
    ran = verbs.run(target, mapping, Start(as_superuser=True, write_stop=True))
    assert ran["quarantined"] == {"refused_by_server": 1}
    assert database.psql("SELECT sum(on_hand), (SELECT units FROM stock_kept) FROM levels") == "11|"
    assert database.psql("SELECT count(*) FROM stock_now") == "2"
    database.psql(
        "INSERT INTO picks VALUES (1, 1, 1); INSERT INTO level_moves VALUES (2, 1, 1);"
        "UPDATE items SET quantity = 60 WHERE id = 2"
    )
    assert database.psql("SELECT on_hand FROM levels WHERE item_id = 2") == "6"
    back = verbs.roll_back(target, mapping)
    assert back["undone"]["kept"] == 1
    assert database.psql("SELECT item_id FROM levels") == "1"
    assert database.psql("SELECT count(*) FROM level_moves") == "0"


def test_what_is_told_of_a_column_comes_true(database: Database) -> None:
    create_demo(database.engine, companies=1, items=20)
    database.psql("""
        ALTER TABLE stock_items ADD COLUMN location_id bigint;
        UPDATE stock_items SET name = '' WHERE id = 7;
        ALTER TABLE stock_items ADD CONSTRAINT named CHECK (name <> '') NOT VALID;
        CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.updated_at := '2001-01-01'; RETURN NEW; END $$;
        CREATE TRIGGER touched BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION touch();
        CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.quantity := OLD.quantity; RETURN NEW; END $$;
        CREATE TRIGGER counted BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION more();
    """)
    told = effects(examined(database, named_mapping("stock_items")))
    assert told["check constraint named"][0] == told["trigger counted"][0] == "to do"
    assert "changed_by_trigger" in told["trigger touched"][1]
    target = verbs.open_target(database.url)
    ran = verbs.run(target, named_mapping("stock_items"), Start(as_superuser=True))
    assert ran["quarantined"] == {"refused_by_server": 1}
    differences = verbs.validate(target, named_mapping("stock_items"))["differences"]
    assert [(one["kind"], one["records"]) for one in differences] == [("changed_by_trigger", 19)]


ADDED = """
    CREATE TABLE companies (id int PRIMARY KEY, name text);
    CREATE TABLE items (id int NOT NULL, company_id int, sku text, quantity int);
    CREATE UNIQUE INDEX a_key ON items (id);
    CREATE INDEX broken ON items (sku);
    UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass;
    CREATE VIEW all_items AS SELECT * FROM items;
    CREATE VIEW how_many AS SELECT count(*) FROM items;
    CREATE VIEW as_json AS SELECT row_to_json(i) FROM items i;
    CREATE VIEW above_json AS SELECT * FROM as_json;
    CREATE PUBLICATION every FOR TABLE items;
    CREATE PUBLICATION adds FOR TABLE items WITH (publish = 'insert');
    CREATE PUBLICATION of_companies FOR TABLE companies;
    CREATE ROLE im_whole;
    CREATE ROLE im_partly;
    GRANT SELECT, UPDATE ON items TO im_whole;
    GRANT SELECT (sku) ON items TO im_partly;
    GRANT SELECT ON companies TO im_whole;
    CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
    CREATE EVENT TRIGGER watched ON ddl_command_end EXECUTE FUNCTION watch();
    CREATE EVENT TRIGGER dropping ON sql_drop EXECUTE FUNCTION watch();
"""


def test_what_is_added_is_told_to_subscribers_roles_and_views(database: Database) -> None:
    database.psql(ADDED)
    try:
        mapping = StockMapping.model_validate(
            {
                "name": "added",
                "company": {"table": "companies", "key": "id", "name": "name"},
                "locations": {"table": "places", "key": "id", "company": "company_id",
                              "default": {"is_default": True}, "create": {}, "add": True},
                "source": {"table": "items", "key": "id", "company": "company_id", "item": "sku",
                           "quantity": "quantity"},
                "target": {"shape": "location_column", "column": "place_id", "add": True},
            }
        )  # fmt: skip
        found = examined(database, mapping)
    finally:
        database.psql("DROP OWNED BY im_whole, im_partly; DROP ROLE im_whole, im_partly")
    told = effects(found)
    assert {name: concern for name, (concern, _) in told.items() if concern != "untouched"} == {
        "publication every": "to do",
        "publication adds": "to do",
        "index broken": "to do",
        "grant im_whole": "to do",
        "grant im_partly": "to do",
        "view all_items": "to know",
        "view as_json": "to know",
        "view above_json": "to know",
        "event trigger watched": "to know",
    }
    assert "no replica identity" in told["publication every"][1]
    assert "add that to the subscribers' table before" in told["publication adds"][1]
    assert "will have none on public.places" in told["grant im_whole"][1]
    assert "none on place_id" in told["grant im_partly"][1]
    assert "does not show place_id until it is created again" in told["view all_items"][1]
    assert told["view how_many"][1] == "Reads nothing that is written."
    assert told["view as_json"][1] == "Shows place_id of items at once."
    assert told["view above_json"][1].endswith("through as_json: as far as it uses that.")
    assert "public.places, place_id" in told["event trigger watched"][1]
    assert [(one.table, one.done) for one in found.tables][-1] == ("public.places", "is made")
    assert "+ public.places" in diagram.svg(found.after)
    assert "public.places" not in diagram.svg(found.before)
    assert diagram.mermaid(found.after).count("(new)") == 2


@pytest.mark.parametrize(
    ("name", "children"),
    [
        (
            "spree",
            {
                "spree_inventory_units": ("record", "to do"),
                "spree_line_items": ("record", "to do"),
                "spree_shipments": ("rows", "to know"),
                "spree_stock_movements": ("level", "to know"),
            },
        ),
        (
            "saleor",
            {
                "order_orderline": ("record", "to do"),
                "warehouse_allocation": ("level", "to know"),
            },
        ),
        (
            "medusa",
            {
                "line_item": ("record", "to do"),
                "product_variant_inventory_item": ("record", "untouched"),
                "reservation_item": ("item", "to know"),
            },
        ),
    ],
)
def test_the_tables_below_the_records_of_each_example_are_found(
    database: Database, name: str, children: dict[str, tuple[str, str]]
) -> None:
    example = EXAMPLES[name]
    database.psql(example.text("schema.sql"))
    found = examined(database, parse_mapping(example.text("mapping.yaml"), origin=name))
    assert {
        child.table.removeprefix("public."): (child.kind, child.concern) for child in found.children
    } == children
    levels = {one.column: one for one in found.fields if one.meaning in {"on hand", "reserved"}}
    assert all(one.before == one.after == "integer" for one in levels.values())
    assert all(len(one.effect) <= 200 for one in found.objects)
    assert all(len(child.advice) <= 200 for child in found.children)
    net = levels.get("stocked_quantity")
    assert net is None or "a net quantity has what is reserved taken off" in net.value


@needs_data
def test_northwind_and_saleor_have_nothing_to_do_and_say_nothing_false(
    server: EmbeddedServer, database: Database
) -> None:
    found = examined(database, northwind(database))
    assert [(child.table, child.quantities, child.covered) for child in found.children] == [
        ("public.order_details", ("quantity",), "read for what is reserved")
    ]
    assert {one.concern for one in found.objects} == {"untouched"}
    kept = {one.column: one.meaning for one in found.fields if not one.changed}
    assert (kept["units_in_stock"], kept["units_on_order"]) == ("quantity", "")
    with made_database(server) as other:
        variants = examined(other, saleor(other))
        assert variants.children == ()
        assert {one.concern for one in variants.objects} == {"untouched"}


def test_a_not_null_that_was_never_validated_is_told_alone(database: Database) -> None:
    if int(database.psql("SHOW server_version_num")) < 180000:
        pytest.skip("servers before 18 have none")
    create_demo(database.engine, companies=1, items=5)
    database.psql("""
        ALTER TABLE stock_items ADD COLUMN shelf text,
            ADD CONSTRAINT on_a_shelf NOT NULL shelf NOT VALID""")
    found = examined(database, named_mapping("stock_items"))
    told = [one for one in found.objects if "shelf" in one.columns]
    assert [(one.kind, one.name, one.concern) for one in told] == [
        ("not null", "on_a_shelf", "to do")
    ]
    assert "put aside as refused_by_server" in told[0].effect


@pytest.mark.one_server
def test_long_and_wide_names_go_on_in_another_line() -> None:
    line = diagram.Line("商品" * 10, "numeric(10,2)")
    box = diagram.Box("x" * 63, "stock records", (line,))
    picture = diagram.svg(diagram.Diagram("Now", (box,), ()))
    rows = re.findall(r"<text [^>]*>([^<]*)</text>", picture)
    widths = [len(row) + len(re.findall("[商品]", row)) for row in rows[:-1]]
    assert max(widths) <= 34
    assert "".join(rows).count("商") == 10
    assert "".join(rows).count("x") == 63
