"""An application whose every name and value tries to be something else than a name or a value.

Quotes, placeholders of three languages, comments, line breaks, a right-to-left override, reserved
words, names as long as the server takes. Whatever reaches SQL, a log line or a page unquoted breaks
a migration of it, or shows.
"""

from __future__ import annotations

from typing import Any

from inventory_migration.database import quoted
from inventory_migration_tests.conftest import Database

SPELLS = (
    "Robert'); DROP TABLE stock;--",
    'double " and ""',
    "percent % %s %(x)s %%",
    "braces {} {0} {keys} {{",
    ":name :im_chunks :im_migration_id ::text \\:x",
    "back\\slash \\' \\",
    "$$ $im_sync$ $1",
    "line\nbreak\r\n\\gexec",
    "\u202eoverride \u2066 \U0001f4a3 é",
    "/* comment -- */ */",
    "<script>alert(1)</script> [x](y) | `z`",
    "\x1b[31mred",
)
"""Texts that mean something to SQL, a driver, a template, psql, a terminal or a page."""

SCHEMA = "Sch\"ema'; :im_chunks %s {0}"
COMPANIES = 'com"panies\n;-- %(x)s $$ \\'
LOCATIONS = "loc'ations ::text :name /* {"
STOCK = "select \u202e\U0001f4a3 %% {{}} :im_migration_id"
LEVELS = "l" * 35 + "\";'%s\\ é {x} $$ $im_sync$"
NAMES = {
    "id": "Order",
    "name": "user\\name' %s",
    "company": ':im_chunks "owner"',
    "default": "is {default} ::boolean",
    "label": "create\ntable",
    "code": "%(code)s $$;",
    "item": "SELECT",
    "quantity": 'quan"tity; --',
    "reserved": "reserved %s :x",
    "deleted": "x" * 63,
    "target": "where' {0} :im_location",
    "transfers": 'Trans"fers\\ %d',
    "touched": "touch:ed $1",
    "counted": "counted\tat' :im_chunks %s {x}",
}
CREATED = {"label": SPELLS[0] + SPELLS[2] + SPELLS[4] + SPELLS[5], "code": "".join(SPELLS)}
FORMAT = 'YYYY-MM-DD"T:im_chunks %s {0} \'; \\ $$ /* -- x"HH24:MI'
"""A format whose quoted letters try the same."""

SOME_TIME = FORMAT.replace('"', "").replace("YYYY-MM-DD", "2024-02-29").replace("HH24:MI", "10:30")

REASON = "it's %s {gone} :im_chunks \\"


def text(value: str) -> str:
    """A text as SQL, in a way of its own: the tool's must not judge itself."""
    return "convert_from('\\x" + value.encode().hex() + "'::bytea, 'UTF8')"


def column(name: str) -> str:
    """A column's quoted name by what it is for."""
    return quoted(NAMES[name])


def build(database: Database) -> None:
    """Create the application: a company for each spell, with an item each that bears it as key."""
    companies, stock = quoted(SCHEMA, COMPANIES), quoted(SCHEMA, STOCK)
    locations = quoted(SCHEMA, LOCATIONS)
    database.psql(f"""
        CREATE SCHEMA {quoted(SCHEMA)};
        CREATE TABLE {companies} ({column("id")} text PRIMARY KEY, {column("name")} text);
        CREATE TABLE {locations} (
            {column("id")} text PRIMARY KEY DEFAULT {text(SPELLS[4])} || gen_random_uuid()::text,
            {column("company")} text REFERENCES {companies}, {column("default")} text,
            {column("label")} text, {column("code")} text);
        CREATE TABLE {stock} (
            {column("id")} text PRIMARY KEY, {column("company")} text, {column("item")} text,
            {column("quantity")} text, {column("reserved")} integer NOT NULL DEFAULT 0,
            {column("deleted")} text, {column("touched")} text, {column("counted")} text);
        CREATE TABLE {quoted(SCHEMA, "li'nes")}
            ("o""f" text CONSTRAINT "f;k' %s" REFERENCES {stock});
        CREATE FUNCTION {quoted(SCHEMA, "f()'; %s")}() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RETURN NEW; END $$;
        CREATE TRIGGER "tri""gger' {{0}} %s" BEFORE UPDATE ON {stock}
            FOR EACH ROW EXECUTE FUNCTION {quoted(SCHEMA, "f()'; %s")}();
    """)
    for number, spell in enumerate(SPELLS, start=1):
        database.psql(f"""
            INSERT INTO {companies} VALUES ({text(spell)}, {text(spell)});
            INSERT INTO {stock} VALUES
                ({text(spell)}, {text(spell)}, {text(spell)}, '{number}', {number % 2}),
                ({text(spell + "2")}, {text(spell)}, {text(spell)}, ' 1.50 ', 0);
            INSERT INTO {quoted(SCHEMA, "li'nes")} VALUES ({text(spell)});
        """)
    database.psql(f"""
        INSERT INTO {stock} VALUES ('nobody', {text(SPELLS[0] + "?")}, {text(SPELLS[1])}, '1');
        INSERT INTO {stock} VALUES ('no number', {text(SPELLS[0])}, 'x', {text(SPELLS[2])});
        INSERT INTO {stock} VALUES
            ('no time', {text(SPELLS[0])}, 'y', '1', 0, NULL, NULL, {text("".join(SPELLS))}),
            ('some time', {text(SPELLS[0])}, 'z', '1', 0, NULL, NULL, {text(SOME_TIME)});
        INSERT INTO {stock} VALUES ('deleted', {text(SPELLS[0])}, 'x', '1', 0, {text(SPELLS[7])});
    """)


def definition(shape: str) -> dict[str, Any]:
    """A mapping of one shape as a file has it; `levels in step` has the trigger besides."""
    sync, shape = shape == "levels in step", shape.replace("levels in step", "stock_level")
    table = {"schema": SCHEMA, "name": STOCK}
    # The application's own locations, or a table that is added, with an unquotable default.
    own = shape != "stock_level"
    target: dict[str, Any] = {"shape": shape, "column": NAMES["target"], "add": True}
    if shape == "allocation_json":
        target["transfers"] = NAMES["transfers"]
    if shape == "stock_level":
        target = {
            "shape": shape,
            "table": {"schema": SCHEMA, "name": LEVELS},
            "record": {NAMES["item"]: NAMES["id"]},
            "location": NAMES["target"],
            "on_hand": NAMES["quantity"],
            "reserved": NAMES["reserved"],
            "values": {
                NAMES["label"]: SPELLS[4] + SPELLS[1],
                NAMES["code"]: {"generate": "uuid", "prefix": SPELLS[2]},
                NAMES["counted"]: {"column": NAMES["counted"], "as": [{"timestamptz": FORMAT}]},
            },
            "add": True,
            "sync": sync,
        }
    return {
        "name": "hostile",
        "company": {
            "table": {"schema": SCHEMA, "name": COMPANIES},
            "key": NAMES["id"],
            "name": NAMES["name"],
        },
        "locations": {
            "table": {"schema": SCHEMA, "name": LOCATIONS if own else f"{LOCATIONS}2"},
            "key": NAMES["id"],
            "company": NAMES["company"],
            "default": {NAMES["default"]: SPELLS[4] + SPELLS[0]},
            "create": {NAMES[name]: value for name, value in CREATED.items()},
            "add": not own,
        },
        "source": {
            "table": table,
            "key": [NAMES["id"]],
            "company": NAMES["company"],
            "item": NAMES["item"],
            "quantity": NAMES["quantity"]
            if own
            else {"column": NAMES["quantity"], "as": ["trim", "collapse_space", "numeric"]},
            "reserved": NAMES["reserved"],
            "skip": {
                REASON: {
                    "sql": f"s.{column('deleted')} IS NOT NULL OR s.{column('item')} = ':im_x %s'"
                }
            },
        },
        "target": target,
        "touch": {NAMES["touched"]: SPELLS[2] + SPELLS[4]} if shape == "location_column" else {},
        "thresholds": {"quarantined_percent": 100},
        "phases": [{"name": "pilot", "companies": [SPELLS[0], SPELLS[4]]}, {"name": "rest"}],
        "chunk": {"rows": 5},
    }
