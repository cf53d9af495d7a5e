"""The rules of a mapping: what is done with a record that breaks one.

What each of them asks is said in `engine/rules.py`.
"""

from __future__ import annotations

import re

from pydantic import ConfigDict, Field, model_validator

from inventory_migration.mapping.parts import Action, Expression, Part

RESERVED_RULES = {
    "default_location_missing",
    "refused_by_server",
    "write_suppressed",
    "references_changed",
}
"""Names under which the engine itself tells of a record; no rule of a mapping's own has them."""


class OwnRule(Part):
    """A rule of the mapping's own: the records that break it, and what to do with them.

    Attributes:
        when: The condition that breaks it.
        do: What happens then.
    """

    when: Expression
    do: Action


class Rules(Part):
    """What to do with a record that breaks a rule: the built-in ones in the order of this list.

    A mapping's own rules come after them, in the order of its file.

    Attributes:
        company_ambiguous: The record belongs to more than one company.
        company_missing: It belongs to no company that there is.
        location_foreign: It refers to a location that is missing or another company's.
        target_key_missing: A part of what would name its level is NULL.
        target_key_shared: Another record would write the same level.
        target_exists: There is a level already, which says something else.
        quantity_missing: The quantity is NULL or blank.
        quantity_not_a_number: The quantity or what is reserved is no finite number.
        quantity_inexact: The target's columns would round it.
        value_unconvertible: A text for the target is not in its format.
        negative_quantity: The quantity is negative.
        reserved_exceeds_quantity: More is reserved than there is.
        item_duplicate: Its company has the item more than once.
        default_location_ambiguous: Its company has more than one default location.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, OwnRule] = Field(init=False)

    company_ambiguous: Action = "quarantine"
    company_missing: Action = "quarantine"
    location_foreign: Action = "quarantine"
    target_key_missing: Action = "quarantine"
    target_key_shared: Action = "quarantine"
    target_exists: Action = "quarantine"
    quantity_missing: Action = "quarantine"
    quantity_not_a_number: Action = "quarantine"
    quantity_inexact: Action = "quarantine"
    value_unconvertible: Action = "quarantine"
    negative_quantity: Action = "warn"
    reserved_exceeds_quantity: Action = "warn"
    item_duplicate: Action = "warn"
    default_location_ambiguous: Action = "fail"

    @model_validator(mode="after")
    def _what_cannot_be_written_is_not_warned_about(self) -> Rules:
        unwritable = (
            "company_ambiguous",
            "company_missing",
            "location_foreign",
            "target_key_missing",
            "target_key_shared",
            "target_exists",
            "quantity_missing",
            "quantity_not_a_number",
            "quantity_inexact",
            "value_unconvertible",
            "default_location_ambiguous",
        )
        warned = [rule for rule in unwritable if getattr(self, rule) == "warn"]
        if warned:
            raise ValueError(
                f"{', '.join(warned)} cannot be 'warn': such a record has nowhere to go; "
                "say 'quarantine' or 'fail'"
            )
        return self

    @model_validator(mode="after")
    def _own_names_are_names(self) -> Rules:
        for name in self.own:
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
                raise ValueError(
                    f"{name!r} cannot name a rule: use lower-case letters, digits and _, beginning "
                    "with a letter, 40 characters at most"
                )
            if name in RESERVED_RULES:
                raise ValueError(f"{name} is a rule that nobody can change; choose another name")
        return self

    @property
    def own(self) -> dict[str, OwnRule]:
        """The mapping's own rules, in the order of its file."""
        return dict(self.__pydantic_extra__ or {})

    def actions(self) -> dict[str, Action]:
        """Every rule with its action, in the order in which they are applied."""
        built_in = {rule: getattr(self, rule) for rule in type(self).model_fields}
        return built_in | {name: rule.do for name, rule in self.own.items()}
