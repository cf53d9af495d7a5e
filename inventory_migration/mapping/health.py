"""When a migration may work, and how fast: windows of time and a limit of records per second.

None of it is part of what moves, so an operator may change it while a migration stands still. What
is done about it belongs in `engine/pacing.py`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Literal, get_args
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, PlainSerializer, field_validator

from inventory_migration.mapping.parts import Part

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

_DAYS: tuple[Day, ...] = get_args(Day)
_MINUTES = 15 * 24 * 60
"""How far ahead an opening is looked for: a change of clocks can swallow one, never two."""


_HOURS_AND_MINUTES = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")


def _time_of_day(value: object) -> object:
    """Accept 22:00 without quotes, which YAML takes for a number to the base of 60."""
    if isinstance(value, int) and not isinstance(value, bool) and 60 <= value < 24 * 60:
        return time(value // 60, value % 60)
    if isinstance(value, time):
        return value
    if isinstance(value, str) and (said := _HOURS_AND_MINUTES.fullmatch(value)):
        return time(int(said[1]), int(said[2]))
    raise ValueError('should be a time of day between quotes, such as "22:00"')


TimeOfDay = Annotated[
    time, BeforeValidator(_time_of_day), PlainSerializer(lambda value: f"{value:%H:%M}")
]


class Window(Part):
    """Hours in which a migration may work, by the clock on the wall of a time zone.

    A window that goes over midnight belongs to the day on which it opens. Where clocks are put
    forward, what they skip is not there; where they are put back, what they repeat is there twice.

    Attributes:
        days: On which days it opens.
        from_: When it opens.
        to: When it closes; the same as `from` stands for 24 hours.
        time_zone: Whose clock.
    """

    days: list[Day] = Field(default_factory=lambda: list(_DAYS), min_length=1)
    from_: TimeOfDay = Field(alias="from")
    to: TimeOfDay
    time_zone: str = "UTC"

    @field_validator("time_zone")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (OSError, ValueError, LookupError):
            raise ValueError(
                f"there is no time zone {value}; take one such as Europe/Berlin or UTC"
            ) from None
        return value

    def is_open(self, moment: datetime) -> bool:
        """Whether work may go on at a moment."""
        wall = moment.astimezone(ZoneInfo(self.time_zone))
        now = wall.time()
        today, yesterday = _DAYS[wall.weekday()], _DAYS[wall.weekday() - 1]
        if self.from_ < self.to:
            return today in self.days and self.from_ <= now < self.to
        return (today in self.days and now >= self.from_) or (
            yesterday in self.days and now < self.to
        )

    def __str__(self) -> str:
        """Say it as a mapping does."""
        days = "every day" if len(self.days) == len(_DAYS) else ", ".join(self.days)
        return f"{days} from {self.from_:%H:%M} to {self.to:%H:%M} {self.time_zone}"


def opens_at(windows: list[Window], moment: datetime) -> datetime | None:
    """The first minute from a moment on at which one of the windows is open.

    It is looked for minute by minute: a calendar has surprises, and a search has none.
    """
    minute = moment.astimezone(UTC)
    for _ in range(_MINUTES):
        if any(window.is_open(minute) for window in windows):
            return minute
        minute = minute.replace(second=0, microsecond=0) + timedelta(minutes=1)
    return None


def _one_or_many_windows(value: object) -> object:
    return [value] if isinstance(value, dict) else value


class Health(Part):
    """When a migration may work, and how fast.

    Attributes:
        max_rows_per_second: How many records one process moves at most; without it, as many as
            it can.
        window: When it works; without one, at any time.
    """

    max_rows_per_second: int | None = Field(default=None, ge=1)
    window: Annotated[list[Window], BeforeValidator(_one_or_many_windows)] = Field(
        default_factory=list
    )
