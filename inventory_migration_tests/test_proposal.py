"""A mapping proposed from a live catalog: what is chosen, what it rests on, what stays open."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import yaml

from inventory_migration import inquiries, verbs
from inventory_migration.catalog import resolve
from inventory_migration.database import create_engine, quoted
from inventory_migration.demo import create_demo
from inventory_migration.engine import prediction
from inventory_migration.errors import MappingInvalid, NoStockFound, TableUnknown
from inventory_migration.mapping import AllocationJson, Expression, StockLevel, parse_mapping
from inventory_migration.proposal import Proposal, document, glance, survey
from inventory_migration.proposal.document import PLACEHOLDER, Part
from inventory_migration_tests import hostile, stage, test_real_data
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.roles import WorkedDatabase, worked_database
from inventory_migration_tests.test_real_data import needs_data

pytestmark = pytest.mark.one_server

COMPANIES = """
    CREATE TABLE companies (id int PRIMARY KEY, name text NOT NULL);
    INSERT INTO companies VALUES (1, 'Ann'), (2, 'Bob');
"""


def proposed(database: Database, table: str | None = None) -> Proposal:
    """What is proposed for a database."""
    return inquiries.propose_mapping(verbs.open_target(database.url), table)


def parsed(found: Proposal) -> dict[str, Any]:
    """The document as YAML reads it."""
    said: dict[str, Any] = yaml.safe_load(found.yaml)
    return said


def comment_at(found: Proposal, key: str) -> str:
    """The comment above the first line with a key, as one line."""
    lines = found.yaml.splitlines()
    place = next(n for n, line in enumerate(lines) if re.match(rf" *{key}:", line))
    said: list[str] = []
    while place and lines[place - 1].strip().startswith("#"):
        place -= 1
        said.insert(0, lines[place].strip().lstrip("# "))
    return " ".join(said)


def predicted_for(database: Database, found: Proposal) -> dict[str, Any]:
    """What `test` says of the proposal, unedited."""
    assert found.undecided == []
    return verbs.test(verbs.open_target(database.url), parse_mapping(found.yaml, "proposal"))


@pytest.mark.slow
def test_the_proposal_for_the_demo_migrates_it_unedited(database: Database) -> None:
    create_demo(database.engine, companies=12, items=400)
    found = proposed(database)
    assert (found.name, found.table) == ("stock_items", "stock_items")
    predicted = predicted_for(database, found)
    assert predicted["gate"]["passed"]
    assert predicted["records"]["migrated"] == 400
    source = parsed(found)["source"]
    assert source["company"] == "company_id"
    assert source["reserved"] == "reserved_quantity"
    assert source["skip"] == {"deleted": {"sql": "s.deleted_at IS NOT NULL"}}
    assert "InventoryBatch" in found.yaml
    assert "order_lines.quantity, lines of orders" in comment_at(found, "reserved")
    assert "there is no foreign key" in comment_at(found, "company")

    target, mapping = verbs.open_target(database.url), parse_mapping(found.yaml, "proposal")
    done = verbs.run(target, mapping)
    assert done["records"]["migrated"] == 400
    assert done["units"]["before"] == done["units"]["after"] != "0"
    assert done["companies"] == 12
    assert verbs.validate(target, mapping)["passed"]
    # What a migration leaves behind is no reason to propose something else.
    assert parsed(proposed(database))["source"] == source


@pytest.mark.slow
def test_the_demos_other_application_is_proposed_by_its_table(database: Database) -> None:
    create_demo(database.engine, companies=12, items=400)
    found = proposed(database, "InventoryBatch")
    mapping = parse_mapping(found.yaml, "proposal")
    assert isinstance(mapping.target, AllocationJson)
    assert mapping.target.columns == ["storeAllocations", "transferRequests"]
    assert mapping.locations.default == {"isMain": True}
    assert predicted_for(database, found)["gate"]["passed"]
    done = verbs.run(verbs.open_target(database.url), mapping)
    assert done["records"]["migrated"] == done["records"]["snapshot"] > 0


@pytest.mark.slow
@needs_data
def test_the_proposal_for_northwind_is_accepted_unedited(database: Database) -> None:
    test_real_data.northwind(database)
    found = proposed(database)
    predicted = predicted_for(database, found)
    assert predicted["gate"]["passed"]
    assert predicted["companies"] == 29
    assert predicted["records"]["migrated"] == 77
    assert predicted["units"]["before"] == "3119"
    assert predicted["reserved"]["before"] == "1198"
    assert "shipped_date is NULL" in comment_at(found, "reserved")
    assert "categories" in comment_at(found, "company")


@pytest.mark.slow
@needs_data
def test_the_proposal_for_saleor_is_accepted_unedited(database: Database) -> None:
    test_real_data.saleor(database)
    found = proposed(database)
    predicted = predicted_for(database, found)
    assert predicted["gate"]["passed"]
    assert predicted["companies"] == 8
    assert predicted["records"]["migrated"] == 124
    assert predicted["units"]["before"] == "1292802"
    assert predicted["reserved"]["before"] == "1297"
    source = parsed(found)["source"]
    assert source["joins"] == "JOIN product_product AS p ON p.id = s.product_id"
    assert source["company"] == {"sql": "p.product_type_id"}
    assert "product_category" in comment_at(found, "company")
    # Nothing there is called as owners are, and a flag would be forgotten.
    assert [note.partition(":")[0] for note in sorted(found.notes)] == ["company", "source"]
    assert "track_inventory (true in 124 of 124 rows)" in comment_at(found, "source")


@pytest.mark.slow
@needs_data
def test_the_tables_of_saleors_next_release_are_proposed_as_levels(database: Database) -> None:
    test_real_data.saleor(database)
    database.psql(test_real_data.SALEOR_2_10)
    found = proposed(database)
    mapping = parse_mapping(found.yaml, "proposal")
    assert isinstance(mapping.target, StockLevel)
    assert mapping.target.table.name == "warehouse_stock"
    assert mapping.target.record == {"product_variant_id": "id"}
    assert mapping.target.numbers == ["quantity", "quantity_allocated"]
    assert mapping.locations.table.name == "warehouse_warehouse"
    assert predicted_for(database, found)["gate"]["passed"]


def test_a_record_that_names_its_owner_goes_before_what_it_is_joined_with(
    database: Database,
) -> None:
    database.psql(f"""{COMPANIES}
        CREATE TABLE products (id int PRIMARY KEY, company_id int NOT NULL REFERENCES companies);
        CREATE TABLE stock_items (id int PRIMARY KEY, product_id int NOT NULL REFERENCES products,
                                  company_id int, quantity int);
    """)
    assert parsed(proposed(database))["source"]["company"] == "company_id"
    database.psql("ALTER TABLE stock_items DROP company_id")
    found = parsed(proposed(database))
    assert found["company"]["table"] == "companies"
    assert found["source"]["joins"] == "JOIN products AS p ON p.id = s.product_id"
    database.psql("ALTER TABLE stock_items ALTER product_id DROP NOT NULL")
    # So that no record is lost that has no product.
    assert parsed(proposed(database))["source"]["joins"].startswith("LEFT JOIN products")


def test_a_name_that_leads_nowhere_is_a_coincidence(database: Database) -> None:
    database.psql(f"""{COMPANIES}
        CREATE TABLE suppliers (id int PRIMARY KEY, name text NOT NULL);
        INSERT INTO suppliers VALUES (7, 'Cid');
        CREATE TABLE stock (id int PRIMARY KEY, company_id int, supplier_id int, quantity int);
        INSERT INTO stock VALUES (1, 100, 7, 5), (2, 200, 7, 5);
    """)
    assert parsed(proposed(database))["company"]["table"] == "suppliers"
    database.psql("UPDATE stock SET company_id = 1 WHERE id = 1")
    found = proposed(database)
    assert parsed(found)["company"]["table"] == "companies"
    assert "1 of 2 rows have a company that is there." in found.yaml


def test_without_an_owner_the_rest_is_proposed_and_says_what_is_open(database: Database) -> None:
    database.psql("CREATE TABLE variants (id int PRIMARY KEY, sku text, count_on_hand int)")
    found = proposed(database)
    assert [one["key"] for one in found.undecided] == ["company", "source.company"]
    assert "UNDECIDED: " in comment_at(found, "company")
    assert parsed(found)["source"]["quantity"] == "count_on_hand"
    mapping = parse_mapping(found.yaml, "proposal")
    with pytest.raises(MappingInvalid, match=f"there is no table {PLACEHOLDER}"):
        verbs.test(verbs.open_target(database.url), mapping)


def test_what_is_suggested_for_the_stock_of_one_owner_is_accepted(database: Database) -> None:
    database.psql("""
        CREATE TABLE variants (id int PRIMARY KEY, sku text, count_on_hand int, brand text);
        INSERT INTO variants VALUES (1, 'a', 5, 'x'), (2, 'b', 6, 'y');
    """)
    comment = comment_at(proposed(database), "company")
    said = re.search(r"company: ({.*}), and under source company: ({.*?})", comment)
    assert said
    mended = parsed(proposed(database))
    mended["company"] = yaml.safe_load(said[1])
    mended["source"]["company"] = yaml.safe_load(said[2])
    mapping = parse_mapping(yaml.safe_dump(mended), "proposal")
    found = verbs.test(verbs.open_target(database.url), mapping)
    assert (found["companies"], found["records"]["migrated"]) == (1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["uuid", "text", "int"])
def test_owners_that_are_in_no_table_are_the_values_of_their_column(
    database: Database, kind: str
) -> None:
    column, one = ("tenant_id", "1") if kind == "int" else ("Vendor", "'a'")
    if kind == "uuid":
        column, one = "sellerId", "gen_random_uuid()"
    database.psql(f"""
        CREATE TABLE stock (id int PRIMARY KEY, qty int, "{column}" {kind});
        INSERT INTO stock SELECT n, n, {one} FROM generate_series(1, 5) AS n;
        INSERT INTO stock VALUES (9, 9, NULL);
    """)
    found = proposed(database)
    assert parsed(found)["source"]["company"] == column
    predicted = predicted_for(database, found)
    assert predicted["companies"] == (5 if kind == "uuid" else 1)
    assert predicted["records"]["migrated"] == 5
    assert predicted["quarantined"] == {"company_missing": 1}
    assert [note.partition(":")[0] for note in found.notes] == ["company"]
    assert ("lower(trim(...))" in found.yaml) == (kind == "text")
    # Locations that are told apart by the same column are theirs.
    database.psql(f"""
        CREATE TABLE warehouses (id serial PRIMARY KEY, name text, "{column}" {kind},
                                 "isDefault" boolean NOT NULL DEFAULT false)
    """)
    there = proposed(database)
    assert parsed(there)["locations"]["table"] == "warehouses"
    assert parsed(there)["locations"]["company"] == column
    mapping = parse_mapping(there.yaml, "proposal")
    done = verbs.run(verbs.open_target(database.url), mapping)
    assert done["records"]["migrated"] == 5


def test_what_the_database_refuses_is_open_at_its_key(database: Database) -> None:
    database.psql(f"""{COMPANIES}
        CREATE TABLE warehouses (
            id serial PRIMARY KEY, company_id int NOT NULL REFERENCES companies, name text NOT NULL,
            is_default boolean NOT NULL DEFAULT false, address_id int NOT NULL, code text);
        CREATE TABLE stock (id int PRIMARY KEY, company_id int NOT NULL REFERENCES companies,
                            quantity money, qty int, sku text, warehouse_id text);
    """)
    found = proposed(database)
    assert parsed(found)["source"]["quantity"] == "qty"
    assert [one["key"] for one in found.undecided] == ["locations.create"]
    assert "address_id" in comment_at(found, "create")
    assert parsed(found)["locations"]["create"]["address_id"] == PLACEHOLDER
    # A column of another type than the key cannot be the reference.
    assert parsed(found)["target"]["add"] is True

    database.psql("""
        INSERT INTO warehouses (company_id, name, is_default, address_id)
        VALUES (1, 'A', true, 1), (2, 'B', true, 1), (2, 'C', false, 1);
    """)
    found = proposed(database)
    assert found.undecided == []
    assert "create" not in parsed(found)["locations"]
    assert "2 of 2 companies have one" in comment_at(found, "default")


def test_a_table_that_cannot_be_migrated_is_proposed_with_the_reason(database: Database) -> None:
    database.psql(f"""{COMPANIES}
        CREATE TABLE stock (id int PRIMARY KEY, company_id int REFERENCES companies, quantity int);
        CREATE TABLE stock_2026 () INHERITS (stock);
    """)
    found = proposed(database, "stock")
    assert [one["key"] for one in found.undecided] == ["source.table"]
    source = found.yaml.partition("\nsource:\n")[2]
    assert source.startswith("  # UNDECIDED: stock has tables that inherit from it")


def test_unique_names_of_new_locations_are_made_from_the_company(database: Database) -> None:
    database.psql(f"""{COMPANIES}
        CREATE TABLE warehouses (
            id varchar(32) PRIMARY KEY, company_id int NOT NULL REFERENCES companies,
            name varchar(9) NOT NULL, slug text NOT NULL UNIQUE, is_main boolean,
            made timestamptz NOT NULL, active boolean NOT NULL);
        CREATE TABLE stock (id int PRIMARY KEY, company_id int NOT NULL REFERENCES companies,
                            quantity int, warehouse_id text);
        INSERT INTO stock VALUES (1, 1, 5), (2, 2, 6);
    """)
    found = proposed(database)
    assert parsed(found)["locations"]["create"] == {
        "id": {"generate": "uuid", "prefix": ""},
        "name": "Main ware",
        "slug": {"sql": "'main-' || c.\"id\""},
        "made": {"sql": "now()"},
        "active": True,
    }
    assert parsed(found)["target"] == {"shape": "location_column", "column": "warehouse_id"}
    verbs.run(verbs.open_target(database.url), parse_mapping(found.yaml, "proposal"))
    assert database.psql("SELECT slug FROM warehouses ORDER BY slug") == "main-1\nmain-2"


def test_a_table_that_is_added_takes_a_name_that_is_free(database: Database) -> None:
    database.psql(f"""{COMPANIES}
        CREATE TABLE locations (id int PRIMARY KEY, name text);
        CREATE VIEW warehouses AS SELECT 1;
        CREATE TABLE stock (id int PRIMARY KEY, company_id int REFERENCES companies, quantity int);
    """)
    found = parsed(proposed(database))["locations"]
    assert (found["table"], found["add"]) == ("stock_locations", True)
    assert "nothing leads from locations to companies" in comment_at(
        proposed(database), "locations"
    )


def test_orders_whose_end_no_column_tells_are_left_to_a_person(database: Database) -> None:
    database.psql(f"""{COMPANIES}
        CREATE TABLE stock (id int PRIMARY KEY, company_id int REFERENCES companies, quantity int);
        CREATE TABLE orders (id int PRIMARY KEY, status text);
        INSERT INTO orders VALUES (1, 'paid'), (2, 'sent'), (3, NULL);
        CREATE TABLE order_lines (order_id int REFERENCES orders, quantity int,
                                  stock_id int REFERENCES stock);
    """)
    found = proposed(database)
    assert parsed(found)["source"]["reserved"] is None
    assert "orders.status, which holds paid, sent among 3 rows" in comment_at(found, "reserved")
    predicted_for(database, found)
    database.psql("""
        ALTER TABLE orders ADD delivered_at date, ADD cancelled_at date;
        ALTER TABLE order_lines ADD quantity_shipped int;
        INSERT INTO stock VALUES (1, 1, 50);
        UPDATE orders SET cancelled_at = now() WHERE id = 2;
        INSERT INTO order_lines VALUES (1, 10, 1, 3), (2, 20, 1, 0), (3, 5, 1, NULL);
    """)
    found = proposed(database)
    assert predicted_for(database, found)["reserved"]["before"] == "12"


def test_what_is_done_of_a_line_is_taken_off_once(database: Database) -> None:
    database.psql(f"""{COMPANIES}
        CREATE TABLE stock (id int PRIMARY KEY, company_id int REFERENCES companies, quantity int);
        CREATE TABLE orders (id int PRIMARY KEY, completed_at date, shipped_at date);
        CREATE TABLE line_items (order_id int REFERENCES orders, stock_id int REFERENCES stock,
                                 quantity int, shipped_quantity int, fulfilled_quantity int);
        INSERT INTO stock VALUES (1, 1, 50);
        INSERT INTO orders VALUES (1, now(), NULL), (2, now(), now());
        INSERT INTO line_items VALUES (1, 1, 10, 4, 4), (2, 1, 20, 20, 20);
    """)
    # An order that is completed is one that was placed, and open until it is shipped.
    assert predicted_for(database, proposed(database))["reserved"]["before"] == "6"


def test_names_that_are_written_together_are_read(database: Database) -> None:
    database.psql("""
        CREATE TABLE companies (companyid serial PRIMARY KEY, companyname text);
        CREATE TABLE warehouses (warehouseid serial PRIMARY KEY, companyid int NOT NULL,
                                 warehousename text NOT NULL, ismain boolean NOT NULL);
        CREATE TABLE "TBLSTOCK" ("STOCKID" serial PRIMARY KEY, "ITEMNO" text, "QTYONHAND" numeric,
                                 "QTYALLOC" numeric, "COMPANYID" int, "ISDELETED" boolean);
        INSERT INTO companies (companyname) VALUES ('Ann');
        INSERT INTO "TBLSTOCK" VALUES (1, 'a', 5, 1, 1, false), (2, 'b', 5, 1, 1, true);
    """)
    found = proposed(database)
    said = parsed(found)
    assert said["company"] == {"table": "companies", "key": "companyid", "name": "companyname"}
    assert said["locations"]["table"] == "warehouses"
    assert said["locations"]["default"] == {"ismain": True}
    assert said["source"]["item"] == "ITEMNO"
    assert (said["source"]["quantity"], said["source"]["reserved"]) == ("QTYONHAND", "QTYALLOC")
    done = verbs.run(verbs.open_target(database.url), parse_mapping(found.yaml, "proposal"))
    assert (done["records"]["migrated"], done["records"]["skipped"]) == (1, 1)


def test_what_may_be_missing_and_is_called_nothing_owns_no_stock(database: Database) -> None:
    database.psql("""
        CREATE TABLE themes (id int PRIMARY KEY, name text);
        CREATE TABLE stock (id int PRIMARY KEY, theme_id int REFERENCES themes, quantity int);
    """)
    found = proposed(database)
    assert [one["key"] for one in found.undecided] == ["company", "source.company"]
    assert "Considered: stock.theme_id to themes (foreign key)." in comment_at(found, "company")
    database.psql("ALTER TABLE stock ALTER theme_id SET NOT NULL")
    found = proposed(database)
    assert (parsed(found)["company"]["table"], len(found.notes)) == ("themes", 1)


def test_records_that_have_a_location_already_are_told(database: Database) -> None:
    database.psql(f"""{COMPANIES}
        CREATE TABLE products (id int PRIMARY KEY);
        CREATE TABLE depots (id serial PRIMARY KEY, company_id int REFERENCES companies,
                             name text, is_main boolean);
        INSERT INTO depots VALUES (1, 1, 'A', true), (2, 2, 'B', true);
        CREATE TABLE quants (id int PRIMARY KEY, company_id int REFERENCES companies, quantity int,
                             depot_id int REFERENCES depots, product_id int REFERENCES products);
    """)
    found = proposed(database)
    assert "quants has no rows yet." in found.yaml
    assert " 0 rows" not in found.yaml
    database.psql("INSERT INTO quants VALUES (1, 1, 5, 1), (2, 2, 6, NULL)")
    found = proposed(database)
    assert parsed(found)["source"]["item"] == "product_id"
    assert parsed(found)["target"] == {"shape": "location_column", "column": "depot_id"}
    assert "1 of 2 rows have a location already" in comment_at(found, "column")
    assert predicted_for(database, found)["records"]["already"] == 1


def test_a_purchase_reserves_nothing(database: Database) -> None:
    database.psql(f"""{COMPANIES}
        CREATE TABLE stock (id int PRIMARY KEY, company_id int REFERENCES companies, quantity int);
        CREATE TABLE purchase_orders (id int PRIMARY KEY, delivered_at date);
        CREATE TABLE purchase_order_lines (order_id int REFERENCES purchase_orders, quantity int,
                                           stock_id int REFERENCES stock);
    """)
    assert "reserved" not in parsed(proposed(database))["source"]


def test_what_is_net_by_its_name_is_proposed_as_net(database: Database) -> None:
    database.psql(f"""{COMPANIES}
        CREATE TABLE stock (id int PRIMARY KEY, company_id int REFERENCES companies,
                            available int, reserved_qty int);
    """)
    assert parsed(proposed(database))["quantity_basis"] == "net"
    database.psql("ALTER TABLE stock ADD on_hand int")
    found = parsed(proposed(database))
    assert (found["source"]["quantity"], found["quantity_basis"]) == ("on_hand", "gross")


def test_a_code_of_something_else_is_no_item(database: Database) -> None:
    database.psql(f"""{COMPANIES}
        CREATE TABLE stock (id int PRIMARY KEY, company_id int REFERENCES companies, quantity int,
                            currency_code text, supplier_name text, name text);
    """)
    assert parsed(proposed(database))["source"]["item"] == "name"
    database.psql("ALTER TABLE stock ADD stock_code text")
    assert parsed(proposed(database))["source"]["item"] == "stock_code"


def test_a_flag_that_levels_have_as_well_is_taken_along(database: Database) -> None:
    database.psql(f"""{COMPANIES}
        CREATE TABLE locations (id serial PRIMARY KEY, company_id int REFERENCES companies,
                                name text, is_default boolean);
        CREATE TABLE items (id int PRIMARY KEY, company_id int REFERENCES companies, quantity int,
                            backorderable boolean NOT NULL, fragile boolean);
        INSERT INTO items VALUES (1, 1, 5, true, true);
        CREATE TABLE levels (item_id int REFERENCES items, location_id int REFERENCES locations,
                             on_hand int, backorderable boolean NOT NULL DEFAULT false,
                             batch int NOT NULL, PRIMARY KEY (item_id, location_id));
    """)
    found = proposed(database)
    assert parsed(found)["target"]["values"]["backorderable"] == {"sql": 's."backorderable"'}
    assert "backorderable" not in comment_at(found, "source")
    assert "fragile (true in 1 of 1 rows)" in comment_at(found, "source")
    assert [one["key"] for one in found.undecided] == ["target.values"]
    database.psql("ALTER TABLE levels DROP batch")
    assert predicted_for(database, proposed(database))["gate"]["passed"]


def test_text_that_holds_quantities_says_how_much_of_it_does_not(database: Database) -> None:
    database.psql(f"""{COMPANIES}
        CREATE TABLE stock (id uuid PRIMARY KEY, company_id int REFERENCES companies, qty text);
        INSERT INTO stock VALUES (gen_random_uuid(), 1, ' 7 '), (gen_random_uuid(), 1, '#REF!'),
                                 (gen_random_uuid(), 2, NULL), (gen_random_uuid(), 2, ' ');
    """)
    found = proposed(database)
    said = "text, NULL or blank in 2 of 4 rows, no number in 1."
    assert comment_at(found, "quantity") == said
    database.psql("INSERT INTO stock VALUES (gen_random_uuid(), 1, '1,234.5')")
    found = proposed(database)
    assert "1 are grouped like 1,234" in comment_at(found, "quantity")
    mended = parsed(found)
    mended["source"]["quantity"] = yaml.safe_load("{column: qty, as: [numeric]}")
    mapping = parse_mapping(yaml.safe_dump(mended), "proposal")
    predicted = verbs.test(verbs.open_target(database.url), mapping)
    assert predicted["quarantined"] == {"quantity_missing": 2, "quantity_not_a_number": 1}
    assert predicted["records"]["migrated"] == 2


@pytest.mark.parametrize(
    ("key", "chosen"),
    [
        ("PRIMARY KEY (a, b)", ["a", "b"]),
        ("UNIQUE (b)", ["b"]),
        ("UNIQUE (c)", None),
        ("CHECK (true)", None),
    ],
)
def test_the_key_is_what_is_unique_and_never_null(
    database: Database, key: str, chosen: list[str] | None
) -> None:
    database.psql(f"""{COMPANIES}
        CREATE TABLE stock (a uuid NOT NULL, b text NOT NULL, c int, quantity int,
                            company_id int REFERENCES companies, {key});
    """)
    found = proposed(database)
    assert parsed(found)["source"]["key"] == (chosen or [PLACEHOLDER])
    assert [one["key"] for one in found.undecided] == ([] if chosen else ["source.key"])


def test_what_is_unique_only_in_part_is_no_key(database: Database) -> None:
    database.psql(f"""{COMPANIES}
        CREATE TABLE stock (id int NOT NULL, quantity int, company_id int REFERENCES companies);
        CREATE UNIQUE INDEX ON stock (id) WHERE quantity > 0;
    """)
    found = proposed(database)
    assert [one["key"] for one in found.undecided] == ["source.key"]
    assert parsed(found)["source"]["key"] == [PLACEHOLDER]


def test_a_store_that_owns_stock_is_not_where_it_is(database: Database) -> None:
    database.psql("""
        CREATE TABLE stores (id int PRIMARY KEY, name text);
        CREATE TABLE stock (id int PRIMARY KEY, store_id int REFERENCES stores, quantity int);
        INSERT INTO stores VALUES (1, 'Ann'); INSERT INTO stock VALUES (1, 1, 5);
    """)
    found = proposed(database)
    assert parsed(found)["source"]["company"] == "store_id"
    assert parsed(found)["target"]["column"] == "location_id"
    assert predicted_for(database, found)["records"]["migrated"] == 1


def test_a_name_of_several_lines_is_written_on_one() -> None:
    names = {"a\n\nb: c": "x\ny", "#": "- '", "yes": "1", "": "a, b]"}
    text = document.written([Part("source", [Part(k, v) for k, v in names.items()])], [])
    assert len(text.splitlines()) == 1 + len(names)
    assert yaml.safe_load(text) == {"source": names}


def test_a_partitioned_table_is_one_table(database: Database) -> None:
    database.psql(f"""{COMPANIES}
        CREATE TABLE stock (id int, company_id int REFERENCES companies, quantity int,
                            PRIMARY KEY (id, company_id)) PARTITION BY HASH (company_id);
        CREATE TABLE stock_0 PARTITION OF stock FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE stock_1 PARTITION OF stock FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        INSERT INTO stock VALUES (1, 1, 5), (2, 2, 6);
    """)
    found = proposed(database)
    assert [one["table"] for one in found.candidates] == ["stock"]
    assert "2 of 2 rows" in found.yaml
    assert found.undecided == []


def test_a_large_table_is_sampled_and_the_evidence_says_so(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.shop(database, items=5000)
    monkeypatch.setattr(glance, "PAGES", 10)
    found = proposed(database)
    sampled = int(comment_at(found, "quantity").split(" of ")[1].split()[0].replace(",", ""))
    assert "sampled rows" in comment_at(found, "quantity")
    assert 0 < sampled < 4000
    monkeypatch.setattr(glance, "PAGES", 2000)
    monkeypatch.setattr(glance, "ROWS", 100)
    assert "of 100 sampled rows" in comment_at(proposed(database), "quantity")


def test_a_table_that_somebody_holds_is_proposed_without_a_look(database: Database) -> None:
    stage.shop(database)
    with (
        psycopg.connect(database.url) as holder,
        create_engine(database.url, read_only=True).connect() as connection,
    ):
        table = next(t for t in survey.survey(connection).tables.values() if t.said == "companies")
        looking = glance.Glance(connection)
        assert looking.look(table, {"names": "count(s.name)"}) is not None
        holder.execute("LOCK TABLE companies")
        assert looking.look(table, {"names": "count(s.name)"}) is None
        assert looking.ask("SELECT 1") is not None


def test_a_look_that_takes_too_long_finds_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glance, "SECONDS", 0.2)
    with create_engine(database.url, read_only=True).connect() as connection:
        looking = glance.Glance(connection)
        assert looking.ask("SELECT pg_sleep(5)") is None
        assert looking.ask("SELECT 1") is not None


@pytest.fixture
def worked(database: Database) -> Iterator[WorkedDatabase]:
    """A database with a role that owns nothing."""
    with worked_database(database.server) as made:
        yield made


def test_a_role_that_may_not_read_the_rows_is_told(worked: WorkedDatabase) -> None:
    stage.shop(worked)
    target = verbs.open_target(worked.worker_url)
    found = inquiries.propose_mapping(target)
    assert "were not looked at" in comment_at(found, "source")
    assert [one["key"] for one in found.undecided] == ["source"]
    assert "permission denied" in found.undecided[0]["why"]
    worked.psql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {worked.worker}")
    assert inquiries.propose_mapping(target).undecided == []


def test_of_very_many_tables_those_on_the_search_path_are_looked_at(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.shop(database)
    database.psql("CREATE SCHEMA other; CREATE TABLE other.stock (id int PRIMARY KEY, qty int)")
    assert {one["table"] for one in proposed(database).candidates} == {"stock_items", "other.stock"}
    monkeypatch.setattr(survey, "MANY", 2)
    found = proposed(database)
    assert [one["table"] for one in found.candidates] == ["stock_items"]
    assert "1 tables off the search path were not looked at" in found.yaml


def test_a_table_is_found_by_any_of_its_names_and_otherwise_refused(database: Database) -> None:
    stage.shop(database)
    database.psql("""
        CREATE SCHEMA a; CREATE SCHEMA "b.c";
        CREATE TABLE a.stock (id int PRIMARY KEY, qty int);
        CREATE TABLE "b.c".stock (id int PRIMARY KEY, qty int);
    """)
    assert parsed(proposed(database, "a.stock"))["source"]["table"] == "a.stock"
    long = {"schema": "b.c", "name": "stock"}
    assert parsed(proposed(database, "b.c.stock"))["source"]["table"] == long
    with pytest.raises(TableUnknown, match=r"any of a.stock, b.c.stock; name it with its schema"):
        proposed(database, "stock")
    with pytest.raises(TableUnknown, match="did you mean stock_items"):
        proposed(database, "stok_items")


def test_a_database_without_stock_is_refused(database: Database) -> None:
    database.psql("CREATE TABLE notes (id int PRIMARY KEY, amount numeric, level int)")
    with pytest.raises(NoStockFound, match="the nearest: notes"):
        proposed(database)
    found = proposed(database, "notes")
    assert parsed(found)["source"]["quantity"] == "level"


@pytest.mark.parametrize("spell", hostile.SPELLS)
def test_a_hostile_name_survives_into_the_document_and_back(database: Database, spell: str) -> None:
    """The whole of what is proposed, of names that try to be something else."""
    schema = f"{spell}.x"

    def table(what: str) -> str:
        return quoted(schema, f"{spell} {what}")

    def column(what: str) -> str:
        return quoted(f"{spell} {what}")

    key = f"{column('id')} int PRIMARY KEY"
    database.psql(f"""
        CREATE SCHEMA {quoted(schema)};
        CREATE TABLE {table("company")} ({key}, {column("name")} text);
        CREATE TABLE {table("location")} (
            {column("id")} serial PRIMARY KEY, {column("owner")} int REFERENCES {table("company")},
            {column("name")} text NOT NULL, {column("default")} boolean);
        CREATE TABLE {table("product")} ({key},
            {column("of")} int NOT NULL REFERENCES {table("company")});
        CREATE TABLE {table("stock")} ({key}, {column("of")} int REFERENCES {table("product")},
            {column("quantity")} int, {column("code")} text, {column("deleted at")} date);
        CREATE TABLE {table("order")} ({key}, {column("shipped at")} date);
        CREATE TABLE {table("order item")} ({column("order")} int REFERENCES {table("order")},
            {column("item")} int REFERENCES {table("stock")}, "QUANTITY" int);
        INSERT INTO {table("company")} VALUES (1, 'x');
        INSERT INTO {table("product")} VALUES (1, 1);
        INSERT INTO {table("order")} VALUES (1);
        INSERT INTO {table("stock")} VALUES
            (1, 1, 7, 'a', NULL), (2, 1, 5, 'b', NULL), (3, 1, 9, 'c', now());
        INSERT INTO {table("order item")} VALUES (1, 1, 4);
    """)
    found = proposed(database, f"{schema}.{spell} stock")
    assert found.undecided == []
    shown = found.yaml.replace("\n", "")
    assert shown.isprintable()
    mapping = parse_mapping(found.yaml, "proposal")
    assert (mapping.source.table.schema_, mapping.source.table.name) == (schema, f"{spell} stock")
    assert mapping.company.table.name == f"{spell} company"
    assert mapping.locations.table.name == f"{spell} location"
    assert mapping.locations.default == {f"{spell} default": True}
    assert mapping.locations.create == {f"{spell} name": "Main warehouse"}
    assert mapping.source.quantity == f"{spell} quantity"
    assert mapping.source.item == f"{spell} code"
    assert isinstance(mapping.source.reserved, Expression)
    with database.engine.connect() as connection:
        predicted = prediction.predict(connection, resolve(connection, mapping))
    assert predicted["units"]["before"] == "21"
    assert predicted["reserved"]["before"] == "4"
    assert predicted["records"]["skipped"] == 1
