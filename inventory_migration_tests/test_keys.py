"""Keys of every kind, and tables of every build: forth, proved, told by key, and back.

The keys of records, companies and locations are compared in their own types and collations, so
what is one key to the database is one key here, however it is spelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from inventory_migration import inquiries, quarantine, verbs
from inventory_migration.errors import MappingInvalid
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.test_rollback import undo
from inventory_migration_tests.test_shapes import TARGETS

LEDGER = "inventory_migration"
NO_ICU = (
    "this PostgreSQL is built without ICU: apt-get install postgresql, and run the test with "
    "--server=system"
)
CI = "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
PLAIN = "ALTER TABLE stock_items ALTER id DROP IDENTITY; "
REKEY = "ALTER TABLE stock_items DROP CONSTRAINT stock_items_pkey; "
PARTITIONED = """
    ALTER TABLE stock_items RENAME TO old;
    CREATE TABLE stock_items (id bigint, day date NOT NULL DEFAULT '2026-01-01', company_id bigint,
        sku text, quantity integer, reserved integer NOT NULL DEFAULT 0, deleted_at timestamptz,
        updated_at timestamptz, PRIMARY KEY ({key})) PARTITION BY {by};
    {parts}
    INSERT INTO stock_items SELECT id, date '2026-01-01' + id::integer % 60, company_id, sku,
        quantity, reserved, deleted_at, updated_at FROM old;
    DROP TABLE old;
"""


@dataclass(frozen=True)
class Kind:
    """What becomes of the shop's tables, and how the mapping names the key of a record."""

    change: str
    key: tuple[str, ...] = ("id",)
    icu: bool = False


def typed(kind: str, using: str = "id::text") -> str:
    return f"{PLAIN} ALTER TABLE stock_items ALTER id TYPE {kind} USING {using};"


RECORDS = {
    "smallint": Kind(typed("smallint", "id")),
    "bigint": Kind(typed("bigint", "id + 9007199254740993")),
    "numeric": Kind(typed("numeric", "id + 0.10")),
    "uuid": Kind(typed("uuid", "md5(id::text)::uuid")),
    "text": Kind(typed("text", "'k, ' || id")),
    "char(9)": Kind(typed("char(9)", "'k' || id")),
    "citext": Kind(
        "CREATE EXTENSION citext;" + typed("citext", "(ARRAY['k', 'K'])[1 + id % 2] || id")
    ),
    "domain": Kind(
        "CREATE DOMAIN sku_key AS text CHECK (VALUE ~ '^k');" + typed("sku_key", "'k' || id")
    ),
    "timestamptz": Kind(
        typed("timestamptz", "timestamptz '2026-01-01 00:00Z' + id * interval '1 us'")
    ),
    "identity": Kind(
        "ALTER TABLE stock_items ALTER id SET GENERATED ALWAYS;"
        "ALTER TABLE companies ALTER id SET GENERATED ALWAYS"
    ),
    "generated": Kind(
        PLAIN + "ALTER TABLE stock_items ADD ref text GENERATED ALWAYS AS "
        "(sku || '#' || company_id) STORED; "
        "ALTER TABLE stock_items ADD UNIQUE (ref), ALTER ref SET NOT NULL", ("ref",),
    ),
    "mixed": Kind(
        PLAIN + REKEY + "ALTER TABLE stock_items ADD u uuid, ADD c char(4);"
        "UPDATE stock_items SET u = md5((id % 4)::text)::uuid, c = 'x' || id % 3, "
        "sku = 'a,b ' || id; ALTER TABLE stock_items ADD PRIMARY KEY (sku, u, c)",
        ("u", "sku", "c"),
    ),
    "two collations": Kind(
        PLAIN + REKEY
        + 'ALTER TABLE stock_items ADD c text COLLATE "POSIX" NOT NULL DEFAULT \'B\', '
        'ALTER sku TYPE text COLLATE "C", ADD PRIMARY KEY (c, sku)', ("c", "sku"),
    ),
    "case-insensitive": Kind(
        CI + typed("text COLLATE ci", "(ARRAY['k', 'K'])[1 + id % 2] || id"), icu=True
    ),
    "numbers in text": Kind(
        "CREATE COLLATION natural_order (provider = icu, locale = 'en-u-kn-true');"
        + typed("text COLLATE natural_order", "'k' || id"), icu=True,
    ),
    "by range": Kind(
        PARTITIONED.format(
            key="id, day", by="RANGE (day)",
            parts="CREATE TABLE winter PARTITION OF stock_items FOR VALUES FROM (MINVALUE) TO "
            "('2026-02-01'); CREATE TABLE \"Later; on\" PARTITION OF stock_items DEFAULT;",
        ),
        ("id", "day"),
    ),
    "by hash": Kind(
        PARTITIONED.format(
            key="id", by="HASH (id)",
            parts="".join(
                f"CREATE TABLE part_{n} PARTITION OF stock_items "
                f"FOR VALUES WITH (MODULUS 3, REMAINDER {n});" for n in range(3)
            ),
        ),
    ),
    "by list in two storeys": Kind(
        PARTITIONED.format(
            key="id, company_id", by="LIST (company_id)",
            parts="CREATE TABLE first PARTITION OF stock_items FOR VALUES IN (1) "
            "PARTITION BY RANGE (id); CREATE TABLE first_low PARTITION OF first FOR VALUES "
            "FROM (MINVALUE) TO (10); CREATE TABLE first_rest PARTITION OF first DEFAULT;"
            "CREATE TABLE others PARTITION OF stock_items DEFAULT;",
        ),
        ("id", "company_id"),
    ),
}  # fmt: skip


def shaped(database: Database, kind: Kind, target: dict[str, Any], **changes: Any) -> StockMapping:
    """The shop with twelve records, one of them without a quantity, its tables changed."""
    stage.shop(database, items=12)
    if kind.icu and "without ICU" in refusal(database, kind.change):
        pytest.skip(NO_ICU)
    database.psql(kind.change)
    database.psql("UPDATE stock_items SET quantity = NULL WHERE quantity = 5")
    if target["shape"] == "stock_level":
        target = {**target, "record": {f"item_{key}": key for key in kind.key}}
    return stage.mapping(
        source={**stage.DEFINITION["source"], "key": [*kind.key]},
        target=target,
        thresholds={"quarantined_percent": 100},
        **changes,
    )


def refusal(database: Database, script: str) -> str:
    """What the server says against a collation; nothing of it stays."""
    with psycopg.connect(database.url) as session:
        try:
            session.execute(script.partition(";")[0])  # type: ignore[call-overload]
        except psycopg.errors.FeatureNotSupported:
            return "without ICU"
        finally:
            session.rollback()
    return ""


def rows(database: Database, columns: str, order: str = "") -> list[str]:
    return database.psql(
        f"SELECT {columns} FROM stock_items s ORDER BY {order or 'quantity'}"
    ).splitlines()


def forth_and_back(database: Database, kind: Kind, mapping: StockMapping) -> None:
    """Everything that depends on a key."""
    target = verbs.open_target(database.url)
    without = "".join(f" - '{name}'" for name in mapping.target.columns)
    before = rows(database, f"to_jsonb(s){without}")
    assert verbs.test(target, mapping)["records"]["quarantined"] == 1
    found = stage.migrate(database, mapping)
    assert found.proof.differences == []
    assert stage.outcomes(database) == {"migrated": 11, "quarantined": 1}
    # Positions are in the order of the database itself.
    key = ", ".join(f"s.{name}" for name in kind.key)
    planned = ", ".join(f"key_{number}" for number, _ in enumerate(kind.key, start=1))
    assert database.psql(f"SELECT {planned} FROM {LEDGER}.snapshot_1 ORDER BY position") == (
        "\n".join(rows(database, key, key))
    )
    if mapping.target.shape == "location_column":
        lost = "s.quantity IS NOT NULL AND NOT EXISTS (SELECT FROM locations l WHERE l.id = "
        lost += "s.location_id AND l.company_id = s.company_id)"
        assert database.psql(f"SELECT count(*) FROM stock_items s WHERE {lost}") == "0"
    assert stage.migrate(database, mapping).changed is False
    parts = ", ".join(f"{name}::text" for name in kind.key)
    for number, outcome in ((3, "migrated"), (None, "quarantined")):
        same = "IS NULL" if number is None else f"= {number}"
        text = database.psql(
            f"SELECT concat_ws(', ', {parts}) FROM stock_items WHERE quantity {same}"
        )
        told = inquiries.show_record(target, mapping, text)
        assert [story["outcome"] for story in told["history"]] == [outcome]
        assert told["key"] == text
        if outcome == "quarantined":
            assert quarantine.show_record(target, mapping, text)["rule"] == "quantity_missing"
    assert verbs.validate(target, mapping)["passed"]
    undo(database, mapping)
    assert rows(database, f"to_jsonb(s){without}") == before
    assert database.psql("SELECT count(*) FROM locations") == "0"
    assert database.psql(f"SELECT count(*) FROM {LEDGER}.conflict") == "0"


@pytest.mark.slow
@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_may_have_any_key_in_any_build_of_table(database: Database, kind: str) -> None:
    chosen = RECORDS[kind]
    mapping = shaped(database, chosen, stage.DEFINITION["target"])
    forth_and_back(database, chosen, mapping)


@pytest.mark.slow
@pytest.mark.one_server
@pytest.mark.parametrize("shape", ["allocation_json", "stock_level"])
@pytest.mark.parametrize("kind", RECORDS)
def test_so_it_may_in_every_shape(database: Database, kind: str, shape: str) -> None:
    chosen = RECORDS[kind]
    forth_and_back(database, chosen, shaped(database, chosen, TARGETS[shape]))


@pytest.mark.parametrize("kind", ["citext", "text COLLATE ci"])
def test_an_item_is_the_same_where_the_database_says_so(database: Database, kind: str) -> None:
    stage.shop(database, companies=1, items=4)
    change = "CREATE EXTENSION citext;" if kind == "citext" else CI
    if kind != "citext" and "without ICU" in refusal(database, change):
        pytest.skip(NO_ICU)
    database.psql(
        f"{change} ALTER TABLE stock_items ALTER sku TYPE {kind};"
        "UPDATE stock_items SET sku = (ARRAY['Bolt', 'nut', 'BOLT', 'washer'])[id]"
    )
    mapping = stage.mapping(
        rules={"item_duplicate": "quarantine"}, thresholds={"quarantined_percent": 100}
    )
    predicted = verbs.test(verbs.open_target(database.url), mapping)
    assert predicted["quarantined"] == {"item_duplicate": 2}
    assert stage.migrate(database, mapping).proof.differences == []
    put_aside = database.psql(f"SELECT key_text FROM {LEDGER}.outcome ORDER BY 1")
    assert put_aside == "1\n3"
    database.psql("UPDATE stock_items SET sku = 'NUT' WHERE id = 2")
    assert verbs.validate(verbs.open_target(database.url), mapping)["passed"]


PLACES = """
    CREATE TABLE locations (id {key}, company_id {company}, name text, code text,
                            is_default boolean NOT NULL DEFAULT false, PRIMARY KEY (id)) {build};
    {parts}
"""
HASHED = "".join(
    f"CREATE TABLE {{0}}_{n} PARTITION OF {{0}} FOR VALUES WITH (MODULUS 2, REMAINDER {n});"
    for n in range(2)
)


def owners(kind: str, here: str, there: str, *, theirs: str | None = None) -> str:
    """Companies with another key, and records that name them in a spelling of their own."""
    return (
        "ALTER TABLE companies ALTER id DROP IDENTITY;"
        f"ALTER TABLE companies ALTER id TYPE {kind} USING {here};"
        f"ALTER TABLE stock_items ALTER company_id TYPE {theirs or kind} USING {there};"
    )


@dataclass(frozen=True)
class Owners:
    """What becomes of companies and locations; the first company has its location already."""

    change: str
    first: str
    icu: bool = False
    create: dict[str, Any] | None = None


def placed(key: str, company: str, first: str, *, build: str = "", **options: Any) -> Owners:
    change = options.pop("change")
    parts = HASHED.format("locations") if build else ""
    places = PLACES.format(key=key, company=company, build=build, parts=parts)
    return Owners(
        f"{change} {places} INSERT INTO locations VALUES ({first}, 'Own', 'OWN', true);",
        first.partition(",")[0], **options,
    )  # fmt: skip


KEY = {"id": {"sql": "'L' || c.id"}}
OWNERS = {
    "uuid": placed(
        "uuid DEFAULT gen_random_uuid()", "uuid", "md5('x')::uuid, md5('1')::uuid",
        change=owners("uuid", "md5(id::text)::uuid", "md5(company_id::text)::uuid"),
    ),
    "integers of two widths": placed(
        "smallint GENERATED ALWAYS AS IDENTITY (START 10)", "integer", "DEFAULT, 1",
        change="ALTER TABLE stock_items ALTER company_id TYPE smallint;",
    ),
    "text": placed(
        "text", "text", "'first', 'c1'", create=KEY,
        change=owners("text", "'c' || id", "'c' || company_id"),
    ),
    "char(n)": placed(
        "char(6)", "char(4)", "'first', 'c1'", create={"id": {"sql": "'L' || c.id::text"}},
        change=owners("char(5)", "'c' || id", "'c' || company_id", theirs="char(7)"),
    ),
    "citext": placed(
        "citext", "citext", "'first', 'c1'", create=KEY,
        change="CREATE EXTENSION citext;" + owners("citext", "'c' || id", "'C' || company_id"),
    ),
    "case-insensitive": placed(
        "text COLLATE ci", "text COLLATE ci", "'first', 'c1'", create=KEY, icu=True,
        change=CI + owners("text COLLATE ci", "'c' || id", "'C' || company_id"),
    ),
    "partitioned by hash": placed(
        "bigint DEFAULT nextval('places')", "bigint", "10, 1", build="PARTITION BY HASH (id)",
        change="CREATE SEQUENCE places START 20; ALTER TABLE companies RENAME TO old;"
        "CREATE TABLE companies (id bigint PRIMARY KEY, name text) PARTITION BY HASH (id);"
        + HASHED.format("companies") + "INSERT INTO companies SELECT * FROM old;",
    ),
}  # fmt: skip
AT = {
    "location_column": "s.location_id = l.id",
    "allocation_json": "s.allocations ? rtrim(l.id::text)",
    "stock_level": "l.id = (SELECT t.location_id FROM stock_levels t WHERE t.item_id = s.id)",
}


def companies_and_places(database: Database, kind: str, shape: str) -> None:
    stage.shop(database, items=12)
    chosen = OWNERS[kind]
    if chosen.icu and "without ICU" in refusal(database, chosen.change):
        pytest.skip(NO_ICU)
    database.psql(chosen.change)
    target = TARGETS[shape]
    if shape == "stock_level":
        target = {**target, "record": {"item_id": "id"}}
    create = {**stage.DEFINITION["locations"]["create"], **(chosen.create or {})}
    mapping = stage.mapping(
        locations={**stage.DEFINITION["locations"], "create": create, "add": False},
        target=target,
        phases=[{"name": "pilot", "companies": 1}, {"name": "rest"}],
    )
    found = stage.migrate(database, mapping)
    assert found.proof.differences == []
    # Record n is of company n, counted in threes; the keys say nothing here.
    told = database.psql(
        "SELECT c.name, l.name, count(*) FROM stock_items s JOIN companies c "
        "ON c.name = 'Company ' || (s.quantity - 1) % 3 + 1 JOIN locations l "
        f"ON l.company_id = c.id AND {AT[shape]} GROUP BY 1, 2 ORDER BY 1"
    )
    assert told == "Company 1|Own|4\nCompany 2|Main warehouse|4\nCompany 3|Main warehouse|4"
    assert stage.migrate(database, mapping).changed is False
    assert verbs.validate(verbs.open_target(database.url), mapping)["passed"]
    undo(database, mapping)
    assert database.psql("SELECT name FROM locations") == "Own"
    assert database.psql(f"SELECT count(*) FROM {LEDGER}.conflict") == "0"


@pytest.mark.slow
@pytest.mark.parametrize("kind", OWNERS)
def test_companies_and_locations_may_have_any_key(database: Database, kind: str) -> None:
    companies_and_places(database, kind, "location_column")


@pytest.mark.slow
@pytest.mark.one_server
@pytest.mark.parametrize("shape", ["allocation_json", "stock_level"])
@pytest.mark.parametrize("kind", OWNERS)
def test_so_they_may_in_every_shape(database: Database, kind: str, shape: str) -> None:
    companies_and_places(database, kind, shape)


@pytest.mark.parametrize("by", ["HASH (item_id)", "RANGE (item_id)"])
def test_levels_may_be_partitioned(database: Database, by: str) -> None:
    stage.shop(database, items=12)
    parts = HASHED.format("stock_levels")
    if by.startswith("RANGE"):
        parts = (
            "CREATE TABLE low PARTITION OF stock_levels FOR VALUES FROM (MINVALUE) TO (5);"
            "CREATE TABLE rest PARTITION OF stock_levels DEFAULT"
        )
    database.psql(
        "CREATE TABLE locations (id bigserial PRIMARY KEY, company_id bigint, name text, "
        "code text, is_default boolean); CREATE TABLE stock_levels (level_id text, "
        "item_id bigint REFERENCES stock_items, location_id bigint REFERENCES locations, on_hand "
        "integer, reserved integer, total integer GENERATED ALWAYS AS (on_hand + reserved) STORED, "
        f"PRIMARY KEY (item_id, location_id)) PARTITION BY {by}; {parts}"
    )
    for sync in (False, True):
        target = {**TARGETS["stock_level"], "record": {"item_id": "id"}, "sync": sync}
        mapping = stage.mapping(target={**target, "add": False})
        assert stage.migrate(database, mapping).proof.differences == []
        database.psql("UPDATE stock_items SET quantity = quantity + 1")
        kept = database.psql(
            "SELECT count(*) FROM stock_levels t JOIN stock_items s ON s.id = t.item_id "
            "WHERE t.on_hand = s.quantity AND t.total = s.quantity + s.reserved"
        )
        assert kept == ("12" if sync else "0")
        undo(database, mapping)
        assert database.psql("SELECT count(*) FROM stock_levels") == "0"


def test_a_record_that_moves_to_another_partition_goes_back_from_there(database: Database) -> None:
    """Its key stays, and the row that bears it is another one: `xmin` says nothing of it."""
    kind = RECORDS["by range"]
    mapping = shaped(database, kind, stage.DEFINITION["target"])
    stage.migrate(database, mapping)
    moved = "UPDATE stock_items SET day = day + 59 WHERE id = 1"
    database.psql(f"{moved}; {moved.replace('+', '-')}")
    told = verbs.validate(verbs.open_target(database.url), mapping)["differences"]
    assert [(d["kind"], d["explained"], d["records"]) for d in told] == [("touched_since", True, 1)]
    undo(database, mapping)
    assert database.psql("SELECT count(location_id) FROM stock_items") == "0"


@pytest.mark.parametrize("build", ["STORED", "VIRTUAL"])
def test_quantities_may_be_generated(database: Database, build: str) -> None:
    if build == "VIRTUAL" and int(database.psql("SHOW server_version_num")) < 180_000:
        pytest.skip("virtual columns come with PostgreSQL 18: run the test on the embedded server")
    stage.shop(database, items=12)
    database.psql(
        "ALTER TABLE stock_items ADD free integer "
        f"GENERATED ALWAYS AS (quantity - reserved) {build}"
    )
    mapping = stage.mapping(source={**stage.DEFINITION["source"], "quantity": "free"})
    assert stage.migrate(database, mapping).proof.differences == []
    units = f"SELECT sum(units_after) FROM {LEDGER}.chunk"
    assert database.psql(units) == database.psql("SELECT sum(quantity - reserved) FROM stock_items")
    undo(database, mapping)
    assert database.psql("SELECT count(location_id) FROM stock_items") == "0"


@pytest.mark.parametrize("table", ["stock_items", "companies", "locations"])
def test_row_level_security_hides_nothing_from_who_bypasses_it_and_is_refused_to_others(
    database: Database, table: str
) -> None:
    stage.shop(database, items=12)
    database.psql(
        "CREATE TABLE locations (id bigserial PRIMARY KEY, company_id bigint, name text, "
        "code text, is_default boolean);"
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
        f"CREATE POLICY few ON {table} USING (id < 3)"
    )
    role = f"limited_{database.name}"
    database.psql(f"CREATE ROLE {role} LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    try:
        limited = verbs.open_target(database.url.replace("postgres@", f"{role}@"))
        with pytest.raises(MappingInvalid, match=f"row level security hides rows of {table}"):
            verbs.test(limited, stage.MAPPING)
        limited.reader.dispose()
    finally:
        database.psql(f"DROP OWNED BY {role}; DROP ROLE {role}")
    assert stage.migrate(database, stage.MAPPING).proof.differences == []
    assert stage.outcomes(database) == {"migrated": 12}
