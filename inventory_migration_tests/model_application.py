"""An arbitrary application for the test of the model: its rows, its tables, and how it is read.

What must become of its records is said in `model.py`; how a target is filled and read, in
`model_targets.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from hypothesis import strategies as st

from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.model import Key, Record
from inventory_migration_tests.model_targets import MISSING, Filled, Target, named

COMPANIES = frozenset({1, 2, 3})
STRANGER = 9
SIDES = {11: 1, 21: 2, 31: 3, 91: STRANGER}
FIRST_NEW_LOCATION = 1000

KEYS = {
    "int": {"id": "bigint"},
    "uuid": {"id": "uuid"},
    "composite": {"code": "text", "line": "integer"},
}


def texts(most: int) -> st.SearchStrategy[str]:
    """Any text that PostgreSQL can hold."""
    characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    return st.text(characters, max_size=most)


keys: dict[str, st.SearchStrategy[Key]] = {
    "int": st.tuples(st.integers(-(2**63), 2**63 - 1) | st.integers(1, 99)),
    "uuid": st.tuples(st.uuids(version=None)),
    "composite": st.tuples(
        st.sampled_from(["A", "A ", " A", "a", "", "Ä", "A\u0308", ", ", "x, 1"]) | texts(5),
        st.integers(-(2**31), 2**31 - 1) | st.integers(0, 3),
    ),
}
whole = st.integers(0, 40).map(str)
digits_38 = st.builds(
    lambda unscaled, scale: f"{Decimal(unscaled).scaleb(-scale):f}",
    st.integers(-(10**38) + 1, 10**38 - 1),
    st.integers(0, 37),
)
not_usual: dict[str, list[st.SearchStrategy[str | None]]] = {
    "numeric": [
        digits_38,
        st.integers(-3, 0).map(str),
        st.sampled_from([None, "NaN", "Infinity", "-Infinity", "0.00", "7.50"]),
    ],
    "text": [
        st.sampled_from(["5.0", " 7 ", "1e5", "-0", "+3", ".5", "8.", "1E-3", "1e999", "9" * 999]),
        st.sampled_from([None, "", " ", "1,234", "#REF!", "٣", "７", "7\u00a0", "\t7", "1_0"])
        | st.sampled_from(["NaN", "Infinity", "1e1000", "9" * 1000, "-", ".", "1e", "5 6", "0x7"])
        | texts(4),
    ],
    "double precision": [
        st.floats(allow_nan=False, allow_infinity=False).map(repr),
        st.sampled_from([None, "0.1", "1e23", "9007199254740993", "nan", "inf", "-inf", "-0.0"]),
    ],
}


def weighted(*choices: tuple[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """One of the strategies; each as often as its weight says, which `|` would not keep."""
    drawn = [strategy for weight, strategy in choices for _ in range(weight)]
    return st.integers(0, len(drawn) - 1).flatmap(lambda n: drawn[n])


quantities: dict[str, st.SearchStrategy[str | None]] = {
    kind: weighted((4, whole), *((1, strategy) for strategy in strategies))
    for kind, strategies in not_usual.items()
}


@dataclass(frozen=True)
class Example:
    """An application and a mapping of it."""

    keys: str
    basis: str
    rules: dict[str, str]
    columns_there: bool
    phases: list[dict[str, Any]]
    rows_of_a_chunk: int
    with_default: frozenset[int]
    rows: list[Filled]

    @property
    def key_columns(self) -> list[str]:
        """Names of the columns that make up a record's key."""
        return list(KEYS[self.keys])

    @property
    def defaults(self) -> dict[int, int]:
        """The default location of each company that has one."""
        return {company: company * 10 for company in self.with_default}

    @property
    def owners(self) -> dict[int, int]:
        """The company of every location."""
        return {**SIDES, **{location: company for company, location in self.defaults.items()}}


@st.composite
def rows(draw: st.DrawFn, keys_of: str, kind: str, *, there: bool) -> Filled:
    """A stock record that may name a location."""
    company = draw(st.sampled_from([1, 2, 3] * 4 + [STRANGER, None]))
    elsewhere = st.sampled_from([10, 20, 31, 91, MISSING, MISSING])
    own = st.sampled_from([0, 1]).map(lambda side: company and company * 10 + side)
    location = weighted((7, st.none()), (1, own), (1, elsewhere)) if there else st.none()
    record = Record(
        key=draw(keys[keys_of]),
        company=company,
        item=draw(st.sampled_from(["A", "A ", "a", "Ä", "A\u0308", "", " ", None]) | texts(8)),
        quantity=draw(quantities[kind]),
        reserved=draw(weighted((3, st.none()), (4, st.integers(0, 9).map(str)),
                               (1, quantities[kind]))),
        deleted=draw(st.sampled_from([False] * 9 + [True])),
        location=draw(location),
    )  # fmt: skip
    return Filled(record, draw(st.integers(0, 23)))


@st.composite
def examples(draw: st.DrawFn, kind: str) -> Example:
    """Applications with quantities of one type."""
    keys_of = draw(st.sampled_from(sorted(KEYS)))
    there = draw(st.sampled_from([True, True, False]))
    strict = ["item_duplicate", "negative_quantity", "reserved_exceeds_quantity"]
    pilot = {"name": "pilot", "companies": 1}
    return Example(
        keys=keys_of,
        basis=draw(st.sampled_from(["gross", "net"])),
        rules=dict.fromkeys(draw(st.just([]) | st.just(strict) | st.sets(st.sampled_from(strict))),
                            "quarantine"),
        columns_there=there,
        phases=[*draw(st.sampled_from([[], [pilot]])), {"name": "rest"}],
        rows_of_a_chunk=draw(st.sampled_from([1000, 7, 3])),
        with_default=draw(st.frozensets(st.sampled_from(sorted(COMPANIES)))),
        rows=draw(
            st.lists(
                rows(keys_of, kind, there=there),
                min_size=30,
                max_size=60,
                unique_by=lambda filled: filled.record.key,
            )
        ),
    )  # fmt: skip


@dataclass(frozen=True)
class Meanwhile:
    """What the application does between a migration's plan and its chunks."""

    late: list[Filled]
    deleted: list[Key]
    recounted: dict[Key, str | None]


@st.composite
def interrupted_examples(draw: st.DrawFn, kind: str) -> tuple[Example, Meanwhile]:
    """Applications that go on working; the example has all rows, late ones included."""
    example = draw(examples(kind))
    # A copy whose other has left since the plan is put aside now and migrated by the next run.
    rules = {name: action for name, action in example.rules.items() if name != "item_duplicate"}
    keys_there = [filled.record.key for filled in example.rows]
    some = st.lists(st.sampled_from(keys_there), min_size=3, max_size=6, unique=True)
    late, deleted = draw(some), draw(some)
    recounted = draw(
        st.dictionaries(st.sampled_from(keys_there), quantities[kind], min_size=3, max_size=6)
    )
    return replace(example, rules=rules), Meanwhile(
        late=[filled for filled in example.rows if filled.record.key in late],
        deleted=[key for key in deleted if key not in late],
        recounted={k: v for k, v in recounted.items() if k not in late and k not in deleted},
    )


@dataclass(frozen=True)
class Case:
    """A database for all examples of one shape and one type of quantity."""

    database: Database
    target: Target
    kind: str
    name: str


def mapping(case: Case, example: Example) -> StockMapping:
    return stage.mapping(
        source={**stage.DEFINITION["source"], "key": example.key_columns},
        target=case.target.mapped(example.key_columns),
        quantity_basis=example.basis,
        rules=example.rules,
        phases=example.phases,
        chunk={"rows": example.rows_of_a_chunk},
    )


def lay_out(case: Case, example: Example) -> None:
    """Make the application anew, with nothing left of the example before, and no stock yet."""
    types = {**KEYS[example.keys], **(case.target.columns if example.columns_there else {})}
    places = [(location, company, False) for location, company in SIDES.items()]
    places += [(location, company, True) for company, location in example.defaults.items()]
    with case.database.engine.begin() as connection:
        connection.exec_driver_sql(f"""
            SET LOCAL client_min_messages = warning;
            DROP SCHEMA IF EXISTS inventory_migration CASCADE;
            DROP TABLE IF EXISTS stock_levels, stock_items, companies, locations;
            CREATE TABLE companies (id bigint PRIMARY KEY, name text NOT NULL);
            INSERT INTO companies SELECT n, 'Company ' || n FROM generate_series(1, 3) AS n;
            CREATE TABLE locations (
                id bigint GENERATED BY DEFAULT AS IDENTITY (START {FIRST_NEW_LOCATION}) PRIMARY KEY,
                company_id bigint NOT NULL, name text, code text,
                is_default boolean NOT NULL DEFAULT false);
            CREATE TABLE stock_items (
                {", ".join(f"{name} {kind}" for name, kind in types.items())},
                company_id bigint, sku text, quantity {case.kind}, reserved {case.kind},
                deleted_at timestamptz, PRIMARY KEY ({named(example.key_columns)}));
        """)
        if case.target.beside and example.columns_there:
            keys = {name: KEYS[example.keys][name] for name in example.key_columns}
            connection.exec_driver_sql(case.target.beside(keys))
        connection.execute(
            sa.text("INSERT INTO locations VALUES (:id, :company, 'Old', 'OLD', :is_default)"),
            [{"id": key, "company": c, "is_default": is_default} for key, c, is_default in places],
        )


def add_stock(case: Case, example: Example, rows: Sequence[Filled]) -> None:
    """Have the application write these rows."""
    if not rows:
        return
    key_columns = example.key_columns
    with case.database.engine.begin() as connection:
        connection.execute(
            sa.text(f"""
                INSERT INTO stock_items ({named(key_columns)}, company_id, sku, quantity,
                                         reserved, deleted_at)
                VALUES ({", ".join(f":key_{n}" for n, _ in enumerate(key_columns))},
                        :company, :item, CAST(CAST(:quantity AS text) AS {case.kind}),
                        CAST(CAST(:reserved AS text) AS {case.kind}),
                        CASE WHEN :deleted THEN now() END)
            """),
            [
                {**vars(f.record), **{f"key_{n}": part for n, part in enumerate(f.record.key)}}
                for f in rows
            ],
        )
        if example.columns_there:
            case.target.fill(connection, key_columns, rows)


def state(case: Case, example: Example, *, expanded: bool = True) -> dict[str, Any]:
    """What the application has: its tables, and what the target holds for each record.

    Before a migration has `expanded` the table, a column that is not there holds nothing.
    """
    written = "".join(f" - '{name}'" for name in case.target.columns)
    with case.database.engine.connect() as connection:
        stock = connection.execute(
            sa.text(
                f"SELECT {named(example.key_columns)}, (to_jsonb(s){written})::text "
                "FROM stock_items AS s"
            )
        )
        stock_by_key = {tuple(row)[:-1]: row[-1] for row in stock}
        readable = expanded or example.columns_there
        return {
            "stock": stock_by_key,
            "locations": dict(
                tuple(row)
                for row in connection.execute(
                    sa.text("SELECT id, to_jsonb(l)::text FROM locations AS l")
                )
            ),
            "target": case.target.read(connection, example.key_columns)
            if readable
            else dict.fromkeys(stock_by_key),
        }


def shown(case: Case, example: Example) -> dict[Key, Record]:
    """The records as a client is shown them: a float's text is the server's to say."""
    names = named(example.key_columns)
    filled_at = {filled.record.key: filled for filled in example.rows}
    with case.database.engine.connect() as connection:
        found = connection.execute(
            sa.text(f"""
                SELECT {names}, company_id, sku, quantity::text, reserved::text,
                       deleted_at IS NOT NULL FROM stock_items
            """)
        )
        told = [(tuple(row)[:-5], tuple(row)[-5:]) for row in found]
    found_records = {}
    for key, values in told:
        filled = filled_at[key]
        record = Record(key, *values, location=filled.record.location)
        agrees = case.target.agrees(filled, record, example.basis)
        found_records[key] = replace(record, agrees=agrees)
    return found_records


def work_on(case: Case, example: Example, meanwhile: Meanwhile) -> None:
    """Let the application do what it does meanwhile."""
    same = " AND ".join(f"{name} = :key_{n}" for n, name in enumerate(example.key_columns))
    with case.database.engine.begin() as connection:
        for key in meanwhile.deleted:
            parameters = {f"key_{n}": part for n, part in enumerate(key)}
            connection.execute(sa.text(f"DELETE FROM stock_items WHERE {same}"), parameters)
        for key, quantity in meanwhile.recounted.items():
            connection.execute(
                sa.text(
                    "UPDATE stock_items SET "
                    f"quantity = CAST(CAST(:quantity AS text) AS {case.kind}) WHERE {same}"
                ),
                {"quantity": quantity, **{f"key_{n}": part for n, part in enumerate(key)}},
            )
    add_stock(case, example, meanwhile.late)
