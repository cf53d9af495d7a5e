"""The columns of tables whose figures are known, in full or in a sample; what is never shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inventory_migration.audit import references
from inventory_migration.audit.column_queries import SHOWN
from inventory_migration.audit.columns import TableProfile, describe
from inventory_migration.audit.hidden import hides
from inventory_migration.catalog.tables import find_table
from inventory_migration.mapping import TableName
from inventory_migration.proposal.survey import survey
from inventory_migration_tests.conftest import Database


def described(database: Database, name: str = "things", **more: Any) -> TableProfile:
    """Describe a table in detail."""
    with database.engine.connect() as connection:
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        found = find_table(connection, TableName(schema="public", name=name))
        assert found is not None
        assert found.relation is not None
        return describe(connection, found.relation, ["a role"], detailed=True, **more)


def by_column(found: TableProfile) -> dict[str, dict[str, Any]]:
    """Every figure by its column."""
    told = found.to_json()
    rows = {row["column"]: dict(row) for row in told["columns"]}
    for row in told["details"]:
        rows[row["column"]] |= row
    return rows


THINGS = """
    CREATE DOMAIN amount AS numeric CHECK (VALUE IS NULL OR VALUE > -1000000);
    CREATE TYPE mood AS ENUM ('low', 'high');
    CREATE TABLE things (
        id int PRIMARY KEY, code text, "Qt:y %s" amount, ratio double precision, born date,
        at time, feeling mood, tag text, price money, extra jsonb, note text);
    INSERT INTO things
    SELECT n, CASE n % 4 WHEN 0 THEN 'AB-' || n % 8 WHEN 1 THEN 'ab-0' WHEN 2 THEN ' ab-0 ' END,
           n, n / 2.0, DATE '2024-01-01' + n, TIME '10:00', 'low', CASE n % 2 WHEN 0 THEN 'A' ELSE
           'a' END, 1, '{}', repeat('x', 3000)
    FROM generate_series(1, 99) AS n;
    INSERT INTO things (id, code, "Qt:y %s", ratio, born, feeling) VALUES
        (100, '  ', 'NaN', 'Infinity', 'infinity', 'high'),
        (101, NULL, -5000.5, '-Infinity', '1900-01-01', 'high'),
        (102, 'Ärger', 90000, 'NaN', NULL, NULL);
"""


def test_what_a_column_holds_is_counted_from_its_values(database: Database) -> None:
    database.psql(THINGS)
    found = described(database)
    assert (found.records, found.looked_at, found.is_sampled) == (102, 102, False)
    rows = by_column(found)

    code = rows["code"]
    assert (code["nulls"], code["distinct"], code["blank"]) == (26, 6, 1)
    assert (code["shortest"], code["longest"]) == (2, 6)
    # AB-0, ab-0 and " ab-0 " are one to a reader: 12, 25 and 25 of them.
    assert (code["variants"], code["variant_records"], code["spaced"]) == (1, 62, 26)
    assert code["variant_examples"] == [[" ab-0 ", "ab-0", "AB-0"]]
    assert code["shape_examples"] == [
        [" aa-9 ", 25], ["aa-9", 25], ["AA-9", 24], ["  ", 1], ["xaaaa", 1]
    ]  # fmt: skip
    assert code["most_frequent"][0] == [" ab-0 ", 25]

    quantity = rows["Qt:y %s"]
    assert [quantity[f"p{share}"] for share in (5, 25, 50, 75, 95)] == [
        "5", "25", "50", "76", "96"
    ]  # fmt: skip
    assert (quantity["negative"], quantity["fractional"]) == (1, 1)
    assert (quantity["outliers"], quantity["outlying"]) == (2, ["90000", "-5000.5"])

    assert (rows["ratio"]["outliers"], rows["ratio"]["fractional"]) == (0, 50)
    assert (rows["born"]["outliers"], rows["born"]["outlying"]) == (1, ["1900-01-01"])
    assert rows["born"]["p50"] == "2024-02-20"
    assert rows["feeling"]["most_frequent"] == [["low", 99], ["high", 2]]
    assert rows["at"]["most_frequent"] == [["10:00:00", 99]]
    assert rows["tag"]["most_frequent"] == [["a", 50], ["A", 49]]
    assert rows["price"]["outliers"] == 0
    assert "most_frequent" not in rows["extra"]
    # A key is no amount, and says nothing by its middle.
    assert rows["id"]["p50"] is None
    assert rows["id"]["outliers"] is None


def test_however_a_text_begins_its_pattern_is_found(database: Database) -> None:
    numbers = ["7", "-7", "+7.5", ".5", " 8 ", "\t9", "\n9", "\r9", "\v9", "\f9", "1e5", "05"]
    dates = ["2024-01-31", " 2024-01-31 12:00", "\t2024-01-31T12"]
    blanks = ["", " ", "   "]
    others = ["\t", "\xa07", "\uff17", "a7", ":7", "é", "N7", "-", "+", ".", "x 2024-01-31", "~"]
    with database.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE things (value text)")
        for value in (*numbers, *dates, *blanks, *others):
            connection.exec_driver_sql("INSERT INTO things VALUES (%s)", (value,))
    value = by_column(described(database))["value"]
    every = len([*numbers, *dates, *blanks, *others])
    assert value["blank"] == len(blanks)
    assert value["inconsistency"] == (
        f"{100 * len(numbers) / every:.1f} % numbers, {100 * len(dates) / every:.1f} % dates"
    )


def test_long_values_are_told_apart_and_cut_where_they_are_shown(database: Database) -> None:
    database.psql("""
        CREATE TABLE things (id int PRIMARY KEY, note text);
        INSERT INTO things SELECT n, repeat('é', 5000) || n % 3 FROM generate_series(1, 9) AS n;
    """)
    note = by_column(described(database))["note"]
    assert note["distinct"] == 3
    assert {len(value) for value, _ in note["most_frequent"]} == {SHOWN}
    assert (len(note["minimum"]), note["longest"]) == (SHOWN, 5001)
    assert [len(shape) for shape, _ in note["shape_examples"]] == [SHOWN]


def test_a_sample_is_the_same_each_time_and_said_so_while_counts_stay_exact(
    database: Database,
) -> None:
    database.psql("""
        CREATE TABLE things (id int PRIMARY KEY, kind text, n int, rare int);
        INSERT INTO things SELECT n, 'kind ' || n % 2, n, NULLIF(n % 5000, 0)
        FROM generate_series(1, 5000) AS n;
        INSERT INTO things VALUES (0, 'kind 0', -1, NULL);
        ANALYZE things;
    """)
    found = described(database, sample_rows=500, exact_rows=100)
    assert found.to_json() == described(database, sample_rows=500, exact_rows=100).to_json()
    assert found.is_sampled
    assert found.looked_at is not None
    assert 300 < found.looked_at < 700
    assert "5,001 rows. " in found.basis
    assert f"estimated from {found.looked_at:,} of them" in found.basis
    rows = by_column(found)
    assert (rows["n"]["negative"], rows["n"]["minimum"], rows["rare"]["nulls"]) == (1, "-1", 2)
    assert (rows["kind"]["distinct"], rows["kind"]["distinct_is"]) == (2, "estimated")
    assert (rows["id"]["distinct"], rows["id"]["distinct_is"]) == (5001, "exact")
    assert sum(count for _, count in rows["kind"]["most_frequent"]) == found.looked_at
    exact = described(database, sample_rows=500)
    assert by_column(exact)["n"]["distinct_is"] == "exact"
    assert by_column(exact)["n"]["distinct"] == 5001


SECRETS = ["Zq7 Fragment", "zq7@example.com", "zq7$2b$hash"]


def test_secrets_and_what_tells_of_persons_are_counted_and_never_shown(database: Database) -> None:
    database.psql("""
        CREATE TABLE customers (
            id int PRIMARY KEY, name text, "passwordHash" text, "e-mail" text, remark text,
            reach text, key_file bytea, score int, born date, birth_date date, tier text);
        INSERT INTO customers SELECT n, 'Zq7 Fragment', 'zq7$2b$hash', 'zq7@example.com',
            'Zq7 Fragment', CASE WHEN n > 2 THEN 'zq7@example.com' ELSE 'none' END,
            'Zq7', 77, '1970-07-07', '1977-07-07', 'gold' FROM generate_series(1, 4) AS n;
    """)
    found = described(database, "customers")
    rows = by_column(found)
    shown = {name for name, row in rows.items() if row["shown"] == "shown"}
    assert shown == {"id", "score", "born", "tier"}
    text = json.dumps(found.to_json()) + json.dumps(found.sections())
    assert not [secret for secret in SECRETS if secret.lower() in text.lower()]
    assert "1977" not in text
    for name in rows.keys() - shown:
        values = ("minimum", "maximum", "p50", "outlying", "shape_examples", "most_frequent")
        assert [rows[name][value] for value in values] == [None] * len(values)
    assert (rows["name"]["shortest"], rows["name"]["longest"], rows["name"]["distinct"]) == (
        12, 12, 1
    )  # fmt: skip
    assert rows["tier"]["most_frequent"] == [["gold", 4]]


@pytest.mark.one_server
@pytest.mark.parametrize(
    ("table", "column", "hidden"),
    [
        ("users", "password", True), ("users", "PasswordHash", True), ("t", "api_key", True),
        ("t", "resetToken", True), ("t", "client_secret", True), ("t", "phone2", True),
        ("t", "E-Mail", True), ("suppliers", "contact_name", True), ("t", "first_name", True),
        ("t", "streetAddress", True), ("t", "Employee Name", True), ("customers", "name", True),
        ("t", "dateOfBirth", True), ("t", "creditCard", True), ("t", "md5", True),
        ("companies", "name", False), ("stock_items", "sku", False), ("t", "company_name", False),
        ("products", "product_name", False), ("customers", "city", False), ("t", "key", False),
        ("stock_items", "quantity", False), ("locations", "code", False), ("t", "passed", False),
    ],
)  # fmt: skip
def test_names_of_secrets_are_known(table: str, column: str, hidden: bool) -> None:
    assert hides(table, column) is hidden


def test_references_are_found_by_foreign_keys_and_by_names_alone(database: Database) -> None:
    database.psql("""
        CREATE TABLE companies (id int PRIMARY KEY);
        CREATE TABLE products (id int PRIMARY KEY);
        CREATE TABLE things (id int PRIMARY KEY, company_id int, product_id int
                             REFERENCES products, "batchId" text, unit_id int);
        CREATE TABLE lines (id int PRIMARY KEY, thing_id bigint);
        CREATE TABLE batches (id int PRIMARY KEY);
        CREATE TABLE a_units (id int PRIMARY KEY);
        CREATE TABLE b_units (id int PRIMARY KEY);
        INSERT INTO companies VALUES (1);
        INSERT INTO products VALUES (7);
        INSERT INTO things VALUES (1, 1, 7), (2, 2, NULL), (3, NULL, NULL);
        INSERT INTO lines VALUES (1, 3), (2, 4), (3, 5);
    """)
    with database.engine.connect() as connection:
        things = find_table(connection, TableName(schema="public", name="things"))
        assert things is not None
        assert things.relation is not None
        involved = {things.relation.oid: things.relation}
        found = references.counted(
            connection,
            [
                *references.declared(connection, list(involved), inward=True),
                *references.named(survey(connection), involved),
            ],
        )
    told = {(one.table[1], *one.columns): (one.known_by, one.rows, one.orphans) for one in found}
    # A text is no number's key, and which of two tables of units is meant nobody knows.
    assert told == {
        ("things", "product_id"): ("foreign key", 1, 0),
        ("things", "company_id"): ("name only", 2, 1),
        ("lines", "thing_id"): ("name only", 3, 2),
    }
