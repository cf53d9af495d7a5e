"""What is odd about an inventory beside the rules: relations for the suite `audit_profile`.

Whether a spelling, a fraction or a dangling reference is odd can only be said against what most
records have. So all is counted first, in one scan of the source; a relation then shows the records
where there are any, and costs nothing where there are none. What a record is put aside for belongs
to the rules of `engine/`, and how severe an oddity is to the suite's file.
"""

# ruff: noqa: S608 - names are quoted, and the mapping's own SQL is trusted

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import sqlalchemy as sa

from inventory_migration.catalog import INTEGERS, TEXTS, Derived, ResolvedMapping, literal
from inventory_migration.database import escaped, quoted
from inventory_migration.engine import canonical, copies, joins, ledger, places
from inventory_migration.engine.columns import keys as key_names
from inventory_migration.engine.columns import written_columns
from inventory_migration.engine.scans import FENCE
from inventory_migration.engine.seen import Seen
from inventory_migration.engine.subjects import Subject
from inventory_migration.mapping import named_column
from inventory_migration.proposal.owners import Link, links
from inventory_migration.proposal.survey import survey
from inventory_migration.proposal.words import words

FEW_FRACTIONS = 0.05
"""Up to this share of fractional quantities, a column is one that counts pieces."""

FEW_SPELLINGS = 0.2
"""Up to this share of items in another case than the others, theirs is the odd one."""

MOST_LOST = 0.5
"""Up to this share of values that lead nowhere, a column's name means the table that it names."""

_RETIRED = {"discontinued", "retired", "obsolete", "archived", "inactive", "disabled", "deleted",
            "removed"}  # fmt: skip

# What looks like a number and is a name: nobody adds up barcodes.
_CODES = {"barcode", "batch", "code", "ean", "fax", "gtin", "id", "isbn", "key", "lot", "mobile",
          "no", "number", "phone", "postcode", "ref", "reference", "serial", "sku", "tracking",
          "upc", "version", "zip"}  # fmt: skip

_BLANKS = r"E' \t\r\n'"
_NUMBER = r"'^\s*[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)\s*$'"
_DATE = r"'^\s*[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9:.]+(Z|[-+][0-9:]+)?)?\s*$'"

RELATIONS: Mapping[str, tuple[str, ...]] = {
    "item_blanks": ("item_key text",),
    "item_cases": ("item_key text",),
    "fractions": ("quantity numeric",),
    "blank_texts": ("column_name text",),
    "typed_texts": ("column_type text", "looks_like text", "records bigint", "filled bigint"),
    "orphans": ("reference text", "refers_to text"),
    "retired_stock": ("column_name text", "quantity numeric"),
    "reserved_drift": ("reserved numeric", "expected numeric"),
    "nullable_quantity": ("column_type text",),
    "skipped": ("reason text",),
    "key_faults": ("records bigint",),
    "item_copies": ("company_key text", "item_key text", "records bigint"),
    "idle_companies": (),
    "located_companies": ("location_key text",),
}
"""The relations that the suite may name beside others, with what each tells beside `key_text`."""


@dataclass(frozen=True)
class Question:
    """Something that is asked of each live record, all in one scan.

    Attributes:
        relation: The relation that shows the records.
        condition: When a record is odd, over the alias `r` and the columns asked for.
        told: What is told of it beside its key, in the order of `RELATIONS`.
        columns: Further columns of `r`, each as SQL over the source's alias `s`.
        of: Over which records its share is counted.
        share: From which share of these up to which it is odd at all.
        column: The column that it tells about as a whole, where it shows no records.
    """

    relation: str
    condition: str
    told: tuple[str, ...]
    columns: Mapping[str, str] = field(default_factory=dict)
    of: str = "true"
    share: tuple[float, float] = (0.0, 1.0)
    column: str | None = None


def with_oddities(
    connection: sa.Connection, resolved: ResolvedMapping, subject: Subject, known: Seen
) -> Subject:
    """Add to what the suite `audit_profile` is held against all that it needs to tell what is odd.

    Args:
        connection: A connection that sees the moment of the verdict; only read from.
        resolved: The mapping and its types.
        subject: What the suite is held against.
        known: What a profile has seen that still holds.
    """
    first = is_first(connection, resolved)
    return replace(
        subject,
        batch=batch_of(subject.batch, first=first),
        relations={
            **subject.relations,
            **relations(connection, resolved, first=first, known=known),
        },
    )


def batch_of(records: str, *, first: bool) -> str:
    """The batch of the suite `audit_profile`, of the SELECT of all records."""
    # After a migration, that records have a location is what was wanted.
    located = "r.outcome = 'already'" if first else "false"
    # What the rules make of a record is found out once, and asked for many times.
    return f"SELECT r.*, {located} AS located_before FROM ({records}\n) AS r {FENCE}"


def is_first(connection: sa.Connection, resolved: ResolvedMapping) -> bool:
    """Whether no migration of the mapping stands."""
    return ledger.current(connection, resolved.mapping.name) is None


def relations(
    connection: sa.Connection, resolved: ResolvedMapping, *, first: bool, known: Seen
) -> dict[str, str]:
    """Each of `RELATIONS` as a SELECT; `first` says that no migration of the mapping stands."""
    references = _references(connection, resolved)
    referring = {column for link in references for column in link.columns}
    found: dict[str, list[str]] = {name: [] for name in RELATIONS}
    for question in _odd(connection, resolved, list(_questions(resolved, referring))):
        found[question.relation].append(_shown(resolved, question))
    found["orphans"] += _orphans(connection, resolved, references)
    found["orphans"] += _lost_locations(resolved)
    found["key_faults"] += _key_faults(resolved)
    found["item_copies"] += [] if known.no_copies else _copies(connection, resolved)
    found["skipped"] += _skipped(connection, resolved)
    adopts = first and resolved.mapping.locations.create is not None
    for name, select in _companies(connection, resolved, adopts=adopts):
        found[name].append(select)
    found["nullable_quantity"] += _nullable_quantity(resolved)
    return {
        name: "\nUNION ALL ".join(selects) if selects else _nothing(name)
        for name, selects in found.items()
    }


def _odd(
    connection: sa.Connection, resolved: ResolvedMapping, asked: Sequence[Question]
) -> list[Question]:
    """The questions to which there is an answer."""
    # Each condition once: what costs is the evaluation of it for every record.
    conditions = dict.fromkeys(c for question in asked for c in (question.condition, question.of))
    counted = ", ".join(
        f"count(*) FILTER (WHERE {condition}) AS count_{number}"
        for number, condition in enumerate(conditions)
    )
    query = f"SELECT {counted} FROM {_records(resolved, asked)}"
    row = connection.execute(sa.text(escaped(query))).one()
    counts = dict(zip(conditions, row, strict=True))

    def is_odd(question: Question) -> bool:
        odd, among = counts[question.condition], counts[question.of]
        least, most = (share * among for share in question.share)
        return bool(odd and least <= odd <= most)

    return [question for question in asked if is_odd(question)]


def _questions(resolved: ResolvedMapping, referring: set[str]) -> Iterator[Question]:
    yield from _of_items()
    if resolved.quantity_type not in INTEGERS:
        yield Question(
            "fractions",
            "r.quantity <> trunc(r.quantity)",
            ("r.quantity",),
            of="r.quantity IS NOT NULL",
            share=(0, FEW_FRACTIONS),
        )
    yield from _of_texts(resolved, referring)
    yield from _of_retired(resolved)
    expected = resolved.mapping.expectations.reserved
    if expected is not None:
        yield Question(
            "reserved_drift",
            "r.reserved <> r.im_expected",
            ("r.reserved", "r.im_expected"),
            columns={"im_expected": f"COALESCE(({expected.sql}\n)::numeric, 0)"},
        )


def _of_items() -> Iterator[Question]:
    """Items that are spelled as hardly any other is."""
    item = 'r.item_key::text COLLATE "C"'
    last = 'right(r.item_key::text, 1) COLLATE "C"'
    blanks = f"r.item_key::text <> btrim(r.item_key::text, {_BLANKS})"
    yield Question(
        "item_blanks",
        f"CASE WHEN {item} < '!' OR {last} < '!' THEN {blanks} ELSE false END",
        ("r.item_key",),
    )
    small, large = f"{item} <> upper({item})", f"{item} <> lower({item})"
    for odd in (small, large):
        yield Question(
            "item_cases",
            odd,
            ("r.item_key",),
            of=f"({small} OR {large})",
            share=(0, FEW_SPELLINGS),
        )


def _of_texts(resolved: ResolvedMapping, referring: set[str]) -> Iterator[Question]:
    """Texts that must be there and are blank, and texts that have a type of their own."""
    source = resolved.mapping.source
    item, owner = named_column(source.item), named_column(source.company)
    named = {*source.key, item, owner, *written_columns(resolved)}
    unique = {key[0] for key in resolved.source.unique_keys if len(key) == 1}
    for number, column in enumerate(resolved.source.columns.values()):
        if column.base_type not in TEXTS or column.name in written_columns(resolved):
            continue
        name, sql = f"im_text_{number}", f"s.{quoted(column.name)}"
        columns, text = {name: f"{sql}::text"}, f"r.{name}"
        # Trimming costs many times what it costs to see that there is nothing to trim.
        first = f'{text} COLLATE "C"'
        if column.not_null or column.name == item:
            blank = f"CASE WHEN {first} < '!' THEN btrim({text}, {_BLANKS}) = '' ELSE false END"
            yield Question("blank_texts", blank, (literal(column.name),), columns=columns)
        if column.name in named | unique | referring or set(words(column.name)) & _CODES:
            continue
        # Cheap, and all that most texts are asked; the relation itself looks closely.
        begins = f"{first} < ';' OR {first} >= 'T' AND {first} < '['"
        trimmed = f"btrim({text}, ' 0123456789.+-:TZ') = '' AND {text} <> ''"
        likely = f"CASE WHEN {begins} THEN {trimmed} ELSE false END"
        yield Question(
            "typed_texts",
            likely,
            (literal(column.type), text),
            columns=columns,
            of=f"{text} IS NOT NULL",
            share=(0.5, 1),
            column=column.name,
        )


def _of_retired(resolved: ResolvedMapping) -> Iterator[Question]:
    """Stock of items that a flag takes out of use, and that no reason to skip leaves out."""
    for number, column in enumerate(resolved.source.columns.values()):
        if not set(words(column.name)) & _RETIRED or column.name in written_columns(resolved):
            continue
        flag = f"r.im_flag_{number}"
        kind = column.base_type
        said = (
            flag
            if kind == "boolean"
            else f"{flag} <> 0"
            if kind in INTEGERS
            else f"{flag} <= CURRENT_TIMESTAMP"
            if kind == "date" or kind.startswith("timestamp")
            else None
        )
        if said:
            yield Question(
                "retired_stock",
                f"{said} AND r.quantity > 0",
                (literal(column.name), "r.quantity"),
                columns={f"im_flag_{number}": f"s.{quoted(column.name)}"},
            )


def _references(connection: sa.Connection, resolved: ResolvedMapping) -> list[Link]:
    """What a record refers to, by a foreign key or only by a column's name.

    Company and location have expectations of their own, which say what becomes of the record.
    """
    seen = survey(connection)
    table = seen.tables.get(resolved.source.oid)
    if table is None:
        return []
    left_out = {named_column(resolved.mapping.source.company), *written_columns(resolved)}
    found = [link for link in links(seen, table) if not left_out & set(link.columns)]
    meant = Counter(link.columns for link in found if not link.declared)
    return [
        link
        for link in found
        if link.table.readable and (link.declared or meant[link.columns] == 1)
    ]


def _orphans(
    connection: sa.Connection, resolved: ResolvedMapping, references: Sequence[Link]
) -> Iterator[str]:
    """The records that refer to a row which is not there, for each reference that has such."""
    for link in references:
        names = [f"im_ref_{place}" for place, _ in enumerate(link.columns)]
        columns = {
            name: f"s.{quoted(column)}" for name, column in zip(names, link.columns, strict=True)
        }
        same = " AND ".join(
            f"t.{quoted(key)} = r.{name}" for key, name in zip(link.keys, names, strict=True)
        )
        filled = " AND ".join(f"r.{name} IS NOT NULL" for name in names)
        joined = (
            f"{_live(resolved, columns)} LEFT JOIN {link.table.sql} AS t ON {same} "
            f"WHERE r.skip_reason IS NULL AND {filled}"
        )
        lost = f"t.{quoted(link.keys[0])} IS NULL"
        row = connection.execute(
            sa.text(
                f"SELECT count(*) FILTER (WHERE {lost}) AS lost, count(*) AS filled "
                f"FROM {escaped(joined)}"
            )
        ).one()
        # Where most of it leads nowhere, its name does not mean that table.
        if row.lost and (link.declared or row.lost <= MOST_LOST * row.filled):
            reference = f"{', '.join(link.columns)} to {link.table.said}"
            value = f"concat_ws(', ', {', '.join(f'r.{name}' for name in names)})"
            yield (
                f"SELECT r.key_text, {literal(reference)} AS reference, {value} AS refers_to "
                f"FROM {joined} AND {lost}"
            )


def _shown(resolved: ResolvedMapping, question: Question) -> str:
    names = [said.split()[0] for said in RELATIONS[question.relation]]
    rows = _records(resolved, [question])
    if question.column is None:
        told = ", ".join(f"{sql} AS {name}" for sql, name in zip(question.told, names, strict=True))
        return f"SELECT r.key_text, {told} FROM {rows} AND ({question.condition})"
    kind, text = question.told
    like = f"{text} ~ {_NUMBER}", f"{text} ~ {_DATE}"
    numbers, dates = (f"count(*) FILTER (WHERE {condition})" for condition in like)
    # A number does not begin with a nought; a code may.
    codes = f"count(*) FILTER (WHERE {text} ~ '^0[0-9]+$')"
    return (
        f"SELECT {literal(question.column)} AS key_text, {kind} AS column_type, "
        f"CASE WHEN {numbers} > {dates} THEN 'numbers' ELSE 'dates' END AS looks_like, "
        f"greatest({numbers}, {dates}) AS records, count({text}) AS filled FROM {rows} "
        f"HAVING greatest({numbers}, {dates}) > 0.5 * count({text}) AND {codes} = 0"
    )


def _records(resolved: ResolvedMapping, asked: Sequence[Question]) -> str:
    """The live records as FROM and WHERE have them, with what the questions need of the source."""
    columns = {name: sql for question in asked for name, sql in question.columns.items()}
    return f"{_live(resolved, columns)} WHERE r.skip_reason IS NULL"


def _live(resolved: ResolvedMapping, columns: Mapping[str, str]) -> str:
    rows = canonical.source_rows(
        # What stands in the target is asked elsewhere, and costs a join.
        replace(resolved, target_exists=False),
        extra=", ".join(f"{sql} AS {name}" for name, sql in columns.items()),
        hashed=False,
    )
    return f"({rows}) AS r"


def _key_faults(resolved: ResolvedMapping) -> Iterator[str]:
    """Keys that several records have, or of which a part is missing, where that can be."""
    if joins.keep_keys(resolved):
        return
    keys = ", ".join(f"r.{key}" for key in key_names(resolved))
    yield (
        f"SELECT COALESCE(NULLIF(concat_ws(', ', {keys}), ''), 'no key') AS key_text, "
        f"count(*) AS records FROM ({canonical.records(resolved)}) AS r GROUP BY {keys} "
        f"HAVING count(*) > 1 OR num_nulls({keys}) > 0"
    )


def _copies(connection: sa.Connection, resolved: ResolvedMapping) -> Iterator[str]:
    """The items that a company has in several records: costly to look for, so done once."""
    if not copies.may_be(connection, canonical.live_rows(resolved)):
        return
    rows = canonical.duplicates(resolved)
    told = "d.key_text, d.company_key, d.item_key, d.copies AS records"
    yield from _if_any(connection, f"SELECT {told} FROM ({rows}) AS d")


def _skipped(connection: sa.Connection, resolved: ResolvedMapping) -> Iterator[str]:
    """The records that the mapping leaves out, each with the first reason that fits."""
    if resolved.mapping.source.skip:
        rows = f"{_live(resolved, {})} WHERE r.skip_reason IS NOT NULL"
        yield from _if_any(connection, f"SELECT r.key_text, r.skip_reason AS reason FROM {rows}")


def _if_any(connection: sa.Connection, select: str) -> Iterator[str]:
    """A SELECT that has rows."""
    found = connection.execute(
        sa.text(f"SELECT EXISTS (SELECT FROM ({escaped(select)}) AS found)")
    ).scalar_one()
    if found:
        yield select


def _companies(
    connection: sa.Connection, resolved: ResolvedMapping, *, adopts: bool
) -> Iterator[tuple[str, str]]:
    """Companies without stock, and those whose location a migration would not make but take."""
    rows = f"({canonical.companies(resolved)}) AS c"
    idle, located = "c.stock_records = 0", "c.default_locations = 1"
    row = connection.execute(
        sa.text(
            f"SELECT count(*) FILTER (WHERE {idle}) AS idle, "
            f"count(*) FILTER (WHERE {located}) AS located FROM {escaped(rows)}"
        )
    ).one()
    key = "concat_ws(', ', c.company_key, c.company_name) AS key_text"
    if row.idle:
        yield "idle_companies", f"SELECT {key} FROM {rows} WHERE {idle}"
    if row.located and adopts:
        told = f"{key}, c.location_key::text AS location_key"
        yield "located_companies", f"SELECT {told} FROM {rows} WHERE {located}"


def _lost_locations(resolved: ResolvedMapping) -> Iterator[str]:
    """Locations of a company that is not there; a default one has an expectation of its own."""
    owner = named_column(resolved.mapping.locations.company)
    if resolved.locations is None or owner is None or isinstance(resolved.company, Derived):
        return
    reference = f"{owner} of {resolved.locations.name} to {resolved.company.name}"
    yield (
        f"SELECT l.location_key::text AS key_text, {literal(reference)} AS reference, "
        f"l.company_key::text AS refers_to FROM ({places.owned(resolved)}) AS l "
        "WHERE l.company_key IS NOT NULL AND l.is_default IS NOT TRUE AND NOT EXISTS ("
        f"SELECT FROM {resolved.company.sql} AS c "
        f"WHERE c.{quoted(resolved.mapping.company.key)} = l.company_key)"
    )


def _nullable_quantity(resolved: ResolvedMapping) -> Iterator[str]:
    """The column of the quantity, where nothing keeps it from being NULL."""
    name = named_column(resolved.mapping.source.quantity)
    if name is None:
        return
    yield (
        "SELECT a.attname::text AS key_text, format_type(a.atttypid, a.atttypmod) AS column_type "
        f"FROM pg_attribute AS a WHERE a.attrelid = {literal(resolved.source.sql)}::regclass "
        f"AND a.attname = {literal(name)} AND NOT a.attnotnull"
    )


def _nothing(name: str) -> str:
    """A relation without a row, with the columns that the suite names."""
    columns = ["key_text text", *RELATIONS[name]]
    told = ", ".join(f"NULL::{kind} AS {column}" for column, kind in map(str.split, columns))
    return f"SELECT {told} WHERE false"
