"""The template of an entry of JSON that says how much of a record is at one location.

Whether a template fits its mapping is asked here too. How it reads as SQL, on the way in and on the
way back, is said in `engine/shapes/allocation_json.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Discriminator, Field, RootModel, Tag

from inventory_migration.mapping.parts import Part, Scalar

Meaning = Literal[
    "on_hand", "reserved", "available", "quantity", "location", "written_at", "marker"
]
Path = tuple[str, ...]
"""The names that lead to a field, outermost first."""

MOST_FIELDS = 50
"""So many fields the server's own function makes of its arguments."""


class FromRecord(Part):
    """What an entry says of its record; `as: text` lets numbers and keys stand in quotes.

    A record's company and item are none of it: the row that the entry stands in says them.

    Attributes:
        from_: What is said.
        as_: `text` where it stands in quotes.
    """

    from_: Meaning = Field(alias="from")
    as_: Literal["text"] | None = Field(default=None, alias="as")


def _form(value: object) -> str | None:
    """Which form of a field is meant, so that a mistake in it is told once."""
    if isinstance(value, FromRecord | Fields):
        return type(value).__name__
    if isinstance(value, dict):
        return "FromRecord" if "from" in value else "Fields"
    return None if isinstance(value, list) else "Constant"


FieldValue = Annotated[
    Annotated[Scalar, Tag("Constant")]
    | Annotated[FromRecord, Tag("FromRecord")]
    | Annotated["Fields", Tag("Fields")],
    Discriminator(
        _form,
        custom_error_type="field_form",
        custom_error_message="should be a constant, {from: ...} or a set of such fields",
    ),
]
"""What a field of an entry is given."""


class Fields(RootModel[dict[str, FieldValue]]):
    """The fields of an entry, or of a field of it."""

    def leaves(self, above: Path = ()) -> Iterator[tuple[Path, Scalar | FromRecord]]:
        """Every field that holds no further ones, with the names that lead to it."""
        for name, value in self.root.items():
            if isinstance(value, Fields):
                yield from value.leaves((*above, name))
            else:
                yield (*above, name), value

    def of(self, meaning: Meaning) -> dict[Path, FromRecord]:
        """The fields that say the same of a record."""
        return {
            path: value
            for path, value in self.leaves()
            if isinstance(value, FromRecord) and value.from_ == meaning
        }

    def widest(self) -> int:
        """The number of fields where most of them are beside each other."""
        within = (value.widest() for value in self.root.values() if isinstance(value, Fields))
        return max(len(self.root), *within, 0)


USUAL = Fields.model_validate(
    {
        "allocated": {"from": "on_hand"},
        "reserved": {"from": "reserved"},
        "lastUpdated": {"from": "written_at"},
        "updatedBy": {"from": "marker"},
    }
)
"""The entry of a mapping that says no other."""

_ONE_EACH: Mapping[Meaning, str] = {
    "on_hand": "what is on hand",
    "reserved": "what is reserved",
    "available": "what is available",
    "location": "the location",
}


def numbers(fields: Fields, basis: str) -> dict[Meaning, dict[Path, FromRecord]]:
    """The fields that say where and how much, by meaning; a quantity is one of the others."""
    found = {meaning: fields.of(meaning) for meaning in _ONE_EACH}
    found["available" if basis == "net" else "on_hand"] |= fields.of("quantity")
    return found


def decimals(fields: Fields) -> list[Path]:
    """The fields that are given a constant with decimals."""
    return [path for path, value in fields.leaves() if isinstance(value, Decimal)]


def unfit(fields: Fields, *, form: str, basis: str) -> Iterator[str]:
    """Say everything that keeps a template from being written and read back."""
    found = numbers(fields, basis)
    if not found["on_hand"] and not found["available"]:
        yield (
            "target.entry says nowhere how much is there, so that nothing could be proved: "
            "give a field {from: on_hand}"
        )
    if form == "list" and not found["location"]:
        yield (
            "target.entry of a list must name its location, since no key does: "
            "give a field {from: location}"
        )
    for meaning, said in _ONE_EACH.items():
        if len(found[meaning]) > 1:
            names = " and ".join(".".join(path) for path in found[meaning])
            yield f"target.entry: {names} both say {said}, and could differ one day: keep one"
    if fields.widest() > MOST_FIELDS:
        yield f"target.entry has more than {MOST_FIELDS} fields beside each other: take some out"
