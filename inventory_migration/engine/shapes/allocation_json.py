"""The shape in which a stock record holds its allocations as JSON, an entry per location.

Entries stand in an object, by their location's key, or in a list, and name it. What else they say
is the mapping's template: how much is there and reserved, when that was written and by whom; a
migration signs with its marker. A second column, where the mapping names one, lists transfer
requests and starts empty.

Whatever stands in the column already may be anything: nothing here raises because of it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby

from inventory_migration.catalog import INTEGERS, base_type, literal
from inventory_migration.catalog.conversions import number_sql
from inventory_migration.database import quoted
from inventory_migration.engine import columns, owners, places, readings
from inventory_migration.engine.shapes.shape import Held
from inventory_migration.engine.shapes.source_columns import SourceColumns
from inventory_migration.mapping import MARKER, Expression, entries
from inventory_migration.mapping import AllocationJson as Target
from inventory_migration.mapping.parts import Scalar


@dataclass(frozen=True)
class _Record:
    """Where the column of a record, its company and what is reserved of it stand, as SQL."""

    column: str
    company: str
    reserved: str


class AllocationJson(SourceColumns):
    """`{"<location key>": {"allocated": …, "reserved": …}}`, or `[{"location": …, …}]`."""

    dear = True

    @property
    def location_type(self) -> str:
        """A key of a JSON object is text, whatever the type of the locations' key."""
        return "text"

    def location_key(self, alias: str = "s") -> str:
        """The first entry's location, or the first that is not of the record's company.

        Type and text of what is no entry, which names no location.
        """
        return self._location(self._source(alias))

    def _location(self, record: _Record) -> str:
        column, found = record.column, self._entries(record.column)
        key = self._location_of_entry
        first = "im_g.first"
        if self.resolved.locations is not None:
            # A single location is looked up by whoever asks, so that few records pay for this.
            foreign = f"(({key}, {record.company}) IN ({self._owned()})) IS NOT TRUE"
            first = (
                f"CASE WHEN im_g.first = im_g.last THEN im_g.first "
                f"ELSE COALESCE((SELECT min({key}) FROM {found} WHERE {foreign}), im_g.first) END"
            )
        return (
            f"CASE WHEN {_is_empty(column)} THEN NULL "
            f"WHEN jsonb_typeof({column}) = '{self._json_type}' THEN (SELECT {first} "
            f"FROM (SELECT min({key}) AS first, max({key}) AS last FROM {found}) AS im_g) "
            # The text of a bare number would be some location's key.
            f"ELSE jsonb_typeof({column}) || ' ' || {column}::text END"
        )

    def same_location(self, key: str, location_key: str) -> str:
        """Equal as text, which is how a key becomes the key of an object."""
        return f"{key}::text = {location_key}"

    def names(self, alias: str, key: str) -> str:
        """There is an entry of that location."""
        if self._target.as_ == "object":
            return f"jsonb_exists({self._column(alias)}, {key}::text)"
        named = f"{self._location_of_entry} = {key}::text"
        return f"EXISTS (SELECT FROM {self._entries(self._column(alias))} WHERE {named})"

    def empty(self, alias: str = "s") -> str:
        """NULL, or JSON that holds nothing."""
        return _is_empty(self._column(alias))

    def placeless(self) -> str:
        """The same of the pre-image: to tell a location is to ask entries, in one process alone."""
        return _is_empty(columns.before_columns(self.resolved)[self._target.column])

    def signed(self, alias: str = "s") -> str:
        """An entry has our marker; without a field for it, anybody may have written any of them."""
        marked = [f"{_text(path)} = {literal(MARKER)}" for path in self._target.fields.of("marker")]
        if not marked:
            return "true"
        entries_of = self._entries(self._column(alias))
        return f"EXISTS (SELECT FROM {entries_of} WHERE {' OR '.join(marked)})"

    def values(self, *, location: str, quantity: str, reserved: str, at: str) -> list[str]:
        """One entry for the location, and no transfer requests."""
        spelled = self._spelled(location=location, quantity=quantity, reserved=reserved, at=at)
        return [f"({spelled})::jsonb", *(["'[]'::jsonb"] if self._target.transfers else [])]

    def holds(self, relation: str, **written: str) -> str:
        """The same, told by its text: to read JSON and compare it takes twice as long.

        Where it is spelled in another way, it is read and compared all the same.
        """
        held = [f"{relation}.{name}" for name in columns.targets(self.resolved, "target")]
        given = self.values(**written)
        spelled = self._spelled(**written)
        entry = columns.all_same(held[:1], given[:1])
        same = f"({held[0]}::text IS NOT DISTINCT FROM {spelled} OR {entry})"
        return f"({same} AND {columns.all_same(held[1:], given[1:])})" if held[1:] else same

    def _spelled(self, *, location: str, quantity: str, reserved: str, at: str) -> str:
        """The text of that entry."""
        on_hand = self.on_hand(quantity, reserved)
        key = f"({location})::text"
        if base_type(self.resolved.location_key_type) not in PLAIN_IN_QUOTES:
            key = f"left(right(to_json({key})::text, -1), -1)"
        given: dict[entries.Meaning, str] = {
            "on_hand": f"({on_hand})::text",
            "reserved": f"({reserved})::text",
            "available": f"(({on_hand}) - ({reserved}))::text",
            "quantity": f"({quantity})::text",
            "location": key,
            "written_at": at,
        }
        in_quotes = {"written_at"} if self._numeric_keys else {"written_at", "location"}
        entry = list(_spelled(self._target.fields, given, in_quotes))
        parts = ["[", *entry, "]"]
        if self._target.as_ == "object":
            parts = ['{"', _Sql(key), '": ', *entry, "}"]
        return _joined(parts)

    def moment(self, at: str) -> str:
        """To the millisecond, as JavaScript writes it."""
        return f"to_char({at} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"

    def held(self, alias: str = "s") -> Held | None:
        """The sums over all entries; NULL where one of them holds no number.

        What entries do not say follows from what they do, or stands in the record alone.
        """
        return self._held(self._source(alias))

    def reading(self, row: str) -> tuple[str, str, str]:
        """By the columns that `as_targets` adds to a row."""
        record = _Record(f"{row}.target_1", f"{row}.company_key", f"{row}.reserved")
        return self._location(record), *self.numbers(self._held(record), record.reserved)

    def _held(self, record: _Record) -> Held:
        basis = self.resolved.mapping.quantity_basis
        total = {
            meaning: self._total(record.column, *next(iter(fields.items())))
            for meaning, fields in entries.numbers(self._target.fields, basis).items()
            if fields and meaning != "location"
        }
        on_hand, reserved = total.get("on_hand"), total.get("reserved")
        if reserved is None and on_hand and "available" in total:
            reserved = f"{on_hand} - {total['available']}"
        if on_hand is None:
            on_hand = f"{total['available']} + {reserved or record.reserved}"
        return Held(f"({on_hand})", f"({reserved})" if reserved else "")

    def lines(self) -> str:
        """The entries; what they do not say of what is reserved stands in the record alone."""
        basis = self.resolved.mapping.quantity_basis
        number = {
            meaning: self._number(*next(iter(fields.items())))
            for meaning, fields in entries.numbers(self._target.fields, basis).items()
            if fields and meaning != "location"
        }
        on_hand, reserved = number.get("on_hand"), number.get("reserved")
        if reserved is None and on_hand and "available" in number:
            reserved = f"{on_hand} - {number['available']}"
        if reserved is None:
            # Once, at whichever location comes first.
            first = f"row_number() OVER (ORDER BY {self._location_of_entry}) = 1"
            reserved = f"CASE WHEN {first} THEN {readings.reserved(self.resolved)} ELSE 0 END"
        if on_hand is None:
            on_hand = f"{number['available']} + {reserved}"
        return f"""
            CROSS JOIN LATERAL (
                SELECT {self._location_of_entry} AS location_key, {on_hand} AS on_hand,
                       {reserved} AS reserved, {self.row_xmin()} AS xmin
                FROM {self._entries(self._column("s"))}) AS im_a"""

    def _total(self, column: str, path: entries.Path, field: entries.FromRecord) -> str:
        number = self._number(path, field)
        # Before a migration nothing is there to look through.
        return (
            f"CASE WHEN NOT {_is_empty(column)} THEN "
            f"(SELECT CASE WHEN count(*) = count({number}) THEN sum({number}) END "
            f"FROM {self._entries(column)}) END"
        )

    def _number(self, path: entries.Path, field: entries.FromRecord) -> str:
        """What a field of an entry says; NULL where that is no number."""
        value = _field(path)
        number = f"WHEN jsonb_typeof({value}) = 'number' THEN ({value})::numeric"
        if field.as_ == "text":
            text = number_sql(Expression(sql=_text(path)), "text")
            number += f" WHEN jsonb_typeof({value}) = 'string' THEN {text}"
        return f"CASE {number} END"

    def _entries(self, column: str) -> str:
        """The entries of a record, `im_e`; none where the column holds something else."""
        wanted = self._json_type
        of_type = f"CASE WHEN jsonb_typeof({column}) = '{wanted}' THEN {column} END"
        if wanted == "object":
            return f"jsonb_each({of_type}) AS im_e(key, value)"
        return f"jsonb_array_elements({of_type}) AS im_e(value)"

    @property
    def _location_of_entry(self) -> str:
        """The text of the location's key; type and text of an element of a list without one."""
        if self._target.as_ == "object":
            return "im_e.key"
        ((path, _),) = self._target.fields.of("location").items()
        return (
            f"CASE WHEN jsonb_typeof({_field(path)}) IN ('number', 'string') THEN {_text(path)} "
            "ELSE jsonb_typeof(im_e.value) || ' ' || im_e.value::text END"
        )

    def _owned(self) -> str:
        """Each location's key, as entries name it, and its company."""
        return (
            f"SELECT im_l.location_key::text, im_l.company_key "
            f"FROM ({places.owned(self.resolved)}) AS im_l WHERE im_l.company_key IS NOT NULL"
        )

    @property
    def _json_type(self) -> str:
        return "object" if self._target.as_ == "object" else "array"

    @property
    def _numeric_keys(self) -> bool:
        """Whether a location's key is a number in JSON as well."""
        fields = self._target.fields.of("location").values()
        as_text = any(field.as_ == "text" for field in fields)
        return not as_text and base_type(self.resolved.location_key_type) in INTEGERS

    @property
    def _target(self) -> Target:
        target = self.resolved.mapping.target
        assert isinstance(target, Target)  # noqa: S101 - the registry goes by the target's shape
        return target

    def _source(self, alias: str) -> _Record:
        resolved = self.resolved
        company, reserved = owners.company_key(resolved), readings.reserved(resolved)
        return _Record(self._column(alias), company, reserved)

    def _column(self, alias: str) -> str:
        return f"{alias}.{quoted(self._target.column)}"


def _is_empty(column: str) -> str:
    return f"({column} IS NULL OR {column} IN ('null', '{{}}', '[]'))"


PLAIN_IN_QUOTES = INTEGERS | {"uuid"}
"""Types whose text is the same between the quotes of JSON."""


class _Sql(str):
    """SQL among the parts of a text, the others of which stand as they are."""

    __slots__ = ()


def _spelled(
    fields: entries.Fields, given: Mapping[entries.Meaning, str], in_quotes: Collection[str]
) -> Iterator[str]:
    """The parts of an object's text, by its template.

    As text it is made in half the time that the server's functions take, which build an object
    within another twice. In the order and with the blanks of the server, so that its text can be
    told from that of what is held.

    Args:
        fields: The template.
        given: SQL of the text of what a record is given, as it stands between quotes.
        in_quotes: What of that stands in quotes also where the template does not say so.
    """
    between = "{"
    for name, value in sorted(fields.root.items(), key=_in_jsonb):
        yield f"{between}{json.dumps(name, ensure_ascii=False)}: "
        between = ", "
        if isinstance(value, entries.Fields):
            yield from _spelled(value, given, in_quotes)
        elif not isinstance(value, entries.FromRecord):
            yield _constant(value)
        elif value.from_ == "marker":
            yield _constant(MARKER)
        else:
            said = given[value.from_]
            if value.as_ == "text" or value.from_ in in_quotes:
                said = f"""'"' || {said} || '"'"""
            yield _Sql(f"COALESCE({said}, 'null')")
    yield "{}" if between == "{" else "}"


def _constant(value: Scalar) -> str:
    return str(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)


def _in_jsonb(field: tuple[str, object]) -> tuple[int, bytes]:
    """Where jsonb has a field among others: by the length of its name, then by its bytes."""
    name = field[0].encode()
    return len(name), name


def _joined(parts: Iterable[str]) -> str:
    """A text in parts, as SQL."""
    runs = groupby(parts, key=lambda part: isinstance(part, _Sql))
    said = [
        " || ".join(run) if is_sql else literal("".join(run))
        for is_sql, run in ((is_sql, list(run)) for is_sql, run in runs)
    ]
    return f"({' || '.join(said)})"


def _field(path: entries.Path) -> str:
    """A field of an entry; NULL where there is none."""
    return "im_e.value" + "".join(f" -> {literal(name)}" for name in path)


def _text(path: entries.Path) -> str:
    """The text of a field, without quotes."""
    above = _field(path[:-1])
    return f"{above} ->> {literal(path[-1])}"
