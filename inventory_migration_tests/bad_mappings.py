"""Bad input in a mapping's file: what is no mapping, and what does not fit the database."""

from __future__ import annotations

from typing import Any

from inventory_migration_tests.bad_input import OWN_LOCATIONS, Case

LEVELS = {
    "shape": "stock_level",
    "table": "levels",
    "record": {"item": "id"},
    "location": "place",
    "on_hand": "there",
}


def mapping(title: str, /, *says: str, **change: Any) -> Case:
    """A mistake in a mapping, where a double underscore in a key stands for a dot."""
    return Case(
        f"mapping: {title}", says, change={key.replace("__", "."): v for key, v in change.items()}
    )


def fits(title: str, sql: str, /, *says: str, **change: Any) -> Case:
    """A mapping that does not fit the database."""
    keys = {key.replace("__", "."): value for key, value in change.items()}
    return Case(f"mapping and database: {title}", says, change=keys, sql=sql)


FILES = [
    Case(
        "mapping: no such file",
        ("no mapping HOME/none.yaml: no such file or directory; correct the path after --mapping",),
        file=None,
        words=("run", "--mapping", "HOME/none.yaml"),
    ),
    Case(
        "mapping: a folder",
        ("no mapping HOME: is a directory; correct the path after --mapping",),
        words=("run", "--mapping", "HOME"),
    ),
    Case("mapping: not UTF-8", ("MAPPING: not UTF-8 text",), file=b"name: caf\xe9\n"),
    Case(
        "mapping: an empty file",
        ("MAPPING: a mapping is a set of keys (name, company, …), and the file is empty",),
        file="",
    ),
    Case(
        "mapping: a list of keys",
        ("MAPPING: a mapping is a set of keys (name, company, …), and this is none",),
        file="- name\n- company\n",
    ),
    Case(
        "mapping: a bracket that is never closed",
        ("MAPPING, line 3: no YAML: expected ',' or '}', but got ':'",),
        file="name: shop\ncompany: {table: x\nsource: y\n",
    ),
    Case(
        "mapping: indented with a tab",
        ("MAPPING, line 3: no YAML: found character '\\t' that cannot start any token",),
        file="name: shop\ncompany:\n\ttable: x\n",
    ),
    Case(
        "mapping: a key given twice",
        ("MAPPING, line 2: name is given twice",),
        file="name: shop\nname: store\n",
    ),
    Case(
        "mapping: a date that does not exist",
        ("MAPPING: no YAML: month must be in 1..12",),
        file="name: 2026-13-45\n",
    ),
    Case(
        "mapping: an object of Python",
        (
            "MAPPING, line 1: no YAML: could not determine a constructor for the tag 'tag:yaml.org,2002:python/object:os.system'",
        ),
        file="name: !!python/object:os.system {}\n",
    ),
    Case(
        "mapping: an alias of itself",
        (
            "MAPPING, line 1: name: should be text",
            "MAPPING, line 1: company: missing",
            "MAPPING, line 1: locations: missing",
            "MAPPING, line 1: source: missing",
            "MAPPING, line 1: target: missing",
        ),
        file="name: &a [*a]\n",
    ),
    Case(
        "mapping: a control character",
        ("MAPPING: no YAML: special characters are not allowed",),
        file=b"name: shop\x07\n",
    ),
]

MAPPINGS = [
    mapping("unknown key at the top", "MAPPING, line 33: chunks: unknown key", chunks={"rows": 5}),
    mapping(
        "unknown key in target", "MAPPING, line 31: target.colum: unknown key", target__colum="x"
    ),
    mapping("without a source", "MAPPING, line 1: source: missing", source=None),
    mapping("without a key", "MAPPING, line 16: source.key: missing", source__key=None),
    mapping(
        "an empty key",
        "MAPPING, line 18: source.key: is empty, and needs one at least",
        source__key=[],
    ),
    mapping("without a shape", "MAPPING, line 27: target.shape: missing", target__shape=None),
    mapping(
        "unknown shape",
        "MAPPING, line 28: target.shape: should be 'location_column', 'allocation_json' or 'stock_level'",
        target__shape="column",
    ),
    mapping(
        "a name with blanks",
        "MAPPING, line 1: name: should be lower-case letters, digits and _, beginning with a letter, 40 characters at most",
        name="My Shop",
    ),
    mapping(
        "a name that is too long",
        "MAPPING, line 1: name: should be lower-case letters, digits and _, beginning with a letter, 40 characters at most",
        name="s" * 41,
    ),
    mapping("a name that is a number", "MAPPING, line 1: name: should be text", name=5),
    mapping(
        "a table that is a number",
        "MAPPING, line 17: source.table: should be a name, or {schema: ..., name: ...}",
        source__table=5,
    ),
    mapping(
        "a column that is a list",
        "MAPPING, line 22: source.quantity: should be a column, {sql: ...} or "
        "{column: ..., as: [...]}",
        source__quantity=["quantity"],
    ),
    mapping(
        "a standardiser that nobody knows",
        "MAPPING, line 25: source.quantity.as.0: should be trim, collapse_space, upper, numeric, "
        "{numeric: ...} or {timestamptz: FORMAT}",
        source__quantity={"column": "quantity", "as": ["number"]},
    ),
    mapping(
        "a standardised column that is not named",
        "MAPPING, line 22: source.quantity: give either column or sql",
        source__quantity={"as": ["numeric"]},
    ),
    mapping(
        "a quantity in a format of times",
        "MAPPING, line 22: source.quantity: a quantity is a number, not a point in time",
        source__quantity={"column": "quantity", "as": {"timestamptz": "YYYY-MM-DD"}},
    ),
    mapping(
        "an expression without sql",
        "MAPPING, line 22: source.quantity.sql: missing",
        "MAPPING, line 23: source.quantity.sq: unknown key",
        source__quantity={"sq": "s.quantity"},
    ),
    mapping(
        "an empty expression",
        "MAPPING, line 23: source.quantity.sql: is empty",
        source__quantity={"sql": ""},
    ),
    mapping(
        "unknown rule",
        "MAPPING, line 34: rules.negative: no rule of that name; did you mean negative_quantity?; a rule of your own is {when: {sql: ...}, do: quarantine}, or warn, or fail",
        rules__negative="warn",
    ),
    mapping(
        "unknown action of a rule",
        "MAPPING, line 34: rules.negative_quantity: should be 'quarantine', 'warn' or 'fail'",
        rules__negative_quantity="ignore",
    ),
    mapping(
        "a rule that cannot be a warning",
        "MAPPING, line 33: rules: company_missing cannot be 'warn': such a record has nowhere to go; say 'quarantine' or 'fail'",
        rules__company_missing="warn",
    ),
    mapping("no phase", "MAPPING, line 33: phases: is empty, and needs one at least", phases=[]),
    mapping(
        "two phases of one name",
        "MAPPING, line 33: phases: two phases have the same name",
        phases=[{"name": "a", "percent": 1}, {"name": "a"}],
    ),
    mapping(
        "a size for the last phase",
        "MAPPING, line 33: phases: the last phase takes all companies that are left: give it no size",
        phases=[{"name": "a", "percent": 10}],
    ),
    mapping(
        "no size for the first phase",
        "MAPPING, line 33: phases: every phase but the last needs companies or percent",
        phases=[{"name": "a"}, {"name": "b"}],
    ),
    mapping(
        "two sizes for a phase",
        "MAPPING, line 34: phases.0: give either companies or percent, not both",
        phases=[{"name": "a", "percent": 1, "companies": 1}, {"name": "b"}],
    ),
    mapping(
        "a phase of no company",
        "MAPPING, line 35: phases.0.companies: should be greater than or equal to 1 or a valid list",
        phases=[{"name": "a", "companies": 0}, {"name": "b"}],
    ),
    mapping(
        "a phase of more than all",
        "MAPPING, line 35: phases.0.percent: should be less than or equal to 100",
        phases=[{"name": "a", "percent": 150}, {"name": "b"}],
    ),
    mapping(
        "a company in two phases",
        "MAPPING, line 33: phases: two phases name company 1",
        phases=[{"name": "a", "companies": [1]}, {"name": "b", "companies": [1]}, {"name": "c"}],
    ),
    mapping(
        "chunks of no record",
        "MAPPING, line 32: chunk.rows: should be greater than or equal to 1",
        chunk__rows=0,
    ),
    mapping(
        "chunks of a word",
        "MAPPING, line 32: chunk.rows: should be a whole number",
        chunk__rows="many",
    ),
    mapping(
        "more than all may be quarantined",
        "MAPPING, line 34: thresholds.quarantined_percent: should be less than or equal to 100",
        thresholds__quarantined_percent=101,
    ),
    mapping(
        "unknown action of a threshold",
        "MAPPING, line 34: thresholds.action: should be 'rollback', 'pause' or 'continue'",
        thresholds__action="stop",
    ),
    mapping(
        "net of what",
        "MAPPING, line 33: quantity_basis: should be 'gross' or 'net'",
        quantity_basis="nett",
    ),
    mapping(
        "no sign of a default location",
        "MAPPING, line 10: locations.default: is empty, and needs one at least",
        locations__default={},
    ),
    mapping(
        "NUL in a constant",
        "MAPPING, line 13: locations.create.name: holds a NUL character, which PostgreSQL can not store; take it out",
        locations__create={"name": "Main\0"},
    ),
    mapping(
        "NUL in a name",
        "MAPPING, line 22: source.quantity: holds a NUL character, which PostgreSQL can not store; take it out",
        source__quantity="quan\0tity",
    ),
    mapping(
        "half a character",
        "MAPPING, line 13: locations.create.name: holds half a character (a surrogate); write it as UTF-8 instead",
        locations__create={"name": "\ud83d"},
    ),
    mapping(
        "a name longer than the server takes",
        "shop: target.column: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx is 64 bytes long, and PostgreSQL cuts names after 63; choose a shorter one",
        target__column="x" * 64,
    ),
    mapping(
        "a target that is read from",
        "MAPPING: the target column cannot be quantity: the record is read from it",
        target__column="quantity",
    ),
    mapping(
        "touch that sets the target",
        "MAPPING: touch cannot set location_id: it is the target column",
        touch={"location_id": 1},
    ),
    mapping(
        "levels of another key that a trigger cannot follow",
        "MAPPING: target.sync: the trigger follows a record by its own key, and target.record is not "
        "that: leave sync out, and end with --write-stop",
        target={**LEVELS, "reserved": "held", "record": {"item": "sku"}, "sync": True},
    ),
    mapping(
        "levels with a column twice",
        "MAPPING, line 27: target: there is given two values",
        target={**LEVELS, "reserved": "there"},
    ),
    mapping(
        "a value that is a list",
        "MAPPING, line 13: locations.create.name: should be a constant, {sql: ...} or {generate: uuid}",
        locations__create={"name": ["Main"]},
    ),
    mapping(
        "a link without its location",
        "MAPPING, line 18: locations.links.0.values: a link names its location: give a column {from: location}",
        locations__links=[{"table": "x", "values": {"a": 1}}],
    ),
    mapping(
        "several mistakes at once",
        "MAPPING, line 33: quantity_basis: should be 'gross' or 'net'",
        "MAPPING, line 32: chunk.rows: should be greater than or equal to 1",
        chunk__rows=0,
        quantity_basis="nett",
    ),
]

FITS = [
    fits(
        "no such table",
        "",
        "shop: source.table: there is no table stock_item; did you mean stock_items?",
        source__table="stock_item",
    ),
    fits(
        "no such schema",
        "",
        "shop: source.table: there is no table shop.stock_items; did you mean stock_items?",
        source__table="shop.stock_items",
    ),
    fits(
        "a view",
        "CREATE VIEW w AS SELECT * FROM stock_items",
        "shop: source.table: w is a view; name the table behind it",
        source__table="w",
    ),
    fits(
        "no such column",
        "",
        "shop: source.quantity: table stock_items has no column quantitty; did you mean quantity?",
        source__quantity="quantitty",
    ),
    fits(
        "a column with a line break",
        "",
        "shop: source.quantity: table stock_items has no column quan\\ntity; did you mean quantity?",
        source__quantity="quan\ntity",
    ),
    fits(
        "a column that paints the terminal red",
        "",
        "shop: source.quantity: table stock_items has no column quan\\x1b[31mtity; did you mean quantity?",
        source__quantity="quan\x1b[31mtity",
    ),
    fits(
        "two such columns",
        "",
        "shop: source.item: table stock_items has no column skuu; did you mean sku?",
        "shop: source.quantity: table stock_items has no column quantitty; did you mean quantity?",
        source__quantity="quantitty",
        source__item="skuu",
    ),
    fits(
        "a key that is not unique",
        "ALTER TABLE stock_items ALTER sku SET NOT NULL",
        "shop: source.key: nothing makes sku unique in stock_items; a key needs a primary key or a unique index",
        source__key=["sku"],
    ),
    fits(
        "a key that may be NULL",
        "",
        "shop: source.key: sku of stock_items may be NULL; the columns of a key are NOT NULL",
        source__key=["sku"],
    ),
    fits(
        "a quantity that is a moment",
        "",
        "shop: source.quantity: is timestamp with time zone; a quantity is a number or text that holds one",
        source__quantity="updated_at",
    ),
    fits(
        "a company of another type",
        "",
        "shop: source.company: is timestamp with time zone and cannot be compared with company.key, bigint",
        source__company="updated_at",
    ),
    fits(
        "a target of another type",
        "ALTER TABLE stock_items ADD location_id date",
        "shop: target.column: location_id is date, but locations.key is bigint",
    ),
    fits(
        "a target that is missing",
        "",
        "shop: target.column: table stock_items has no column location_id; or say 'add: true' in target",
        target__add=False,
    ),
    fits(
        "a generated target",
        "ALTER TABLE stock_items ADD location_id bigint GENERATED ALWAYS AS (1) STORED",
        "shop: target.column: location_id is generated and cannot be written",
    ),
    fits(
        "an expression that is no SQL",
        "",
        'shop: source.quantity: the server refuses it: syntax error at or near ")"',
        source__quantity={"sql": "s.quantity +"},
    ),
    fits(
        "an expression over no column",
        "",
        "shop: source.quantity: the server refuses it: column s.stock does not exist",
        source__quantity={"sql": "s.stock"},
    ),
    fits(
        "a skip that is no condition",
        "",
        "shop: source.skip.old: is text, not a condition",
        source__skip={"old": {"sql": "s.sku"}},
    ),
    fits(
        "a join that is no SQL",
        "",
        'shop: source.joins: the server refuses it: relation "nowhere" does not exist',
        source__joins="LEFT JOIN nowhere n ON true",
    ),
    fits(
        "a join that multiplies records",
        "",
        "shop: source.joins: 30 records come more than once (such as 1, 2, 3, 4, 5); a join must find exactly one row for each record; join on a unique key of the other table, or on a subselect that has one row for each",
        source__joins="JOIN companies c ON true",
    ),
    fits(
        "a join that loses records",
        "",
        "shop: source.joins: 27 records do not come at all (such as 4, 5, 6, 7, 8); a join must find exactly one row for each record; LEFT JOIN keeps those without a partner",
        source__joins="JOIN companies c ON c.id = s.id",
    ),
    fits(
        "a sign that does not fit its column",
        OWN_LOCATIONS,
        'shop: locations.default.is_default: the server refuses it: invalid input syntax for type boolean: "maybe"',
        locations__default={"is_default": "maybe"},
    ),
    fits(
        "a location that lacks a value",
        OWN_LOCATIONS + "ALTER TABLE locations ADD kind text NOT NULL",
        "shop: locations.create: column kind of locations needs a value and has no default; add it to create",
    ),
    fits(
        "a table to be added to no schema",
        "",
        "shop: locations.table: there is no schema shop to add to",
        locations__table="shop.locations",
    ),
    fits(
        "a rewrite rule",
        "CREATE RULE r AS ON UPDATE TO stock_items DO INSTEAD NOTHING",
        "shop: source.table: stock_items has rewrite rules (r); writes would go astray",
    ),
    fits(
        "tables that inherit",
        "CREATE TABLE old_items () INHERITS (stock_items)",
        "shop: source.table: stock_items has tables that inherit from it, in which its keys can come again",
    ),
    fits(
        "touch of no column",
        "",
        "shop: touch.changed: table stock_items has no column changed",
        touch={"changed": True},
    ),
    fits(
        "touch that does not fit its column",
        "",
        'shop: touch.updated_at: the server refuses it: column "updated_at" is of type timestamp with time zone but expression is of type boolean',
        touch={"updated_at": True},
    ),
    fits(
        "levels that nothing keeps apart",
        OWN_LOCATIONS + "CREATE TABLE levels (item bigint, place bigint, there int)",
        "shop: target.record: nothing keeps a record from having two levels at one location: create a unique index on (item, place) of levels",
        target=LEVELS,
    ),
    fits(
        "a level that lacks a value",
        OWN_LOCATIONS
        + "CREATE TABLE levels (item bigint, place bigint, there int, kind text NOT NULL, UNIQUE (item, place))",
        "shop: target.values: column kind of levels needs a value and has no default; add it",
        target=LEVELS,
    ),
    fits(
        "a level that holds text",
        OWN_LOCATIONS
        + "CREATE TABLE levels (item bigint, place bigint, there text, UNIQUE (item, place))",
        "shop: target.on_hand: there is text; a quantity is a number",
        target=LEVELS,
    ),
]
