"""How long a migration's records stay in the database, and its archive wherever that is.

None of it is part of what moves. What is removed, and under which conditions, is said in
`engine/purge.py`; nothing is ever removed because a time has passed.
"""

from __future__ import annotations

import calendar
import re
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator, StrictStr, model_validator

from inventory_migration.mapping.parts import Part

_SPELLED = re.compile(r"([1-9][0-9]{0,4}) (day|week|month|year)s?")
_MOST_YEARS = 1000


def _understood(value: str) -> str:
    days, months = _parts(value)
    if months > 12 * _MOST_YEARS or days > 366 * _MOST_YEARS:
        raise ValueError(f"{value} is longer than {_MOST_YEARS} years")
    return value


def _parts(duration: str) -> tuple[int, int]:
    """Days and months."""
    said = _SPELLED.fullmatch(duration)
    if said is None:
        raise ValueError("should be a number of days, weeks, months or years, such as '90 days'")
    number = int(said[1])
    days = {"day": number, "week": 7 * number}.get(said[2], 0)
    return days, {"month": number, "year": 12 * number}.get(said[2], 0)


Duration = Annotated[StrictStr, AfterValidator(_understood)]
"""A number of days, weeks, months or years, as a mapping says it."""


def later(moment: datetime, duration: str) -> datetime:
    """The moment so much later; where a month is too short, its last day."""
    days, months = _parts(duration)
    year, month = divmod(12 * moment.year + moment.month - 1 + months, 12)
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    return moment.replace(year=year, month=month + 1, day=day) + timedelta(days=days)


class Retention(Part):
    """How long a migration is kept once it has ended.

    Attributes:
        keep_online: Its records in the database; without it they are never purged.
        keep_archive: Its archive; without it for ever.
    """

    keep_online: Duration | None = None
    keep_archive: Duration | None = None

    @model_validator(mode="after")
    def _archives_last_longer(self) -> Retention:
        # A moment in a year of 365 days, to compare by.
        start = datetime(2001, 1, 1)
        online, archived = self.keep_online, self.keep_archive
        if online and archived and later(start, archived) < later(start, online):
            raise ValueError(
                f"keep_archive ({archived}) is shorter than keep_online ({online}): the archive "
                "would be gone before the records are"
            )
        return self
