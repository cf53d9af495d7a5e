"""When a migration may work, how fast, and what the server must be spared.

None of it is part of what moves, so an operator may change it while a migration stands still. How
it is measured belongs in `engine/measures.py`, what is done about it in `engine/pacing.py`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Literal, get_args
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, PlainSerializer, field_validator, model_validator

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


class Limits(Part):
    """From which value of a measure on workers go slowly, and from which on they wait.

    Attributes:
        slow: From here on they rest after each transaction, and take one chunk at a time.
        hold: From here on they wait, until it is better.
    """

    slow: float | None = Field(default=None, ge=0)
    hold: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _some(self) -> Limits:
        if self.slow is None and self.hold is None:
            raise ValueError("give slow, hold or both; 'off' leaves the measure out")
        if self.slow is not None and self.hold is not None and not self._ordered():
            raise ValueError(f"slow ({self.slow:g}) comes before hold ({self.hold:g})")
        return self

    def _ordered(self) -> bool:
        return (self.slow or 0) <= (self.hold or 0)


class Floor(Limits):
    """The same for a measure that is bad where it is low."""

    def _ordered(self) -> bool:
        return (self.slow or 0) >= (self.hold or 0)


class FreeDisk(Part):
    """Who knows how many bytes are free on the server's disk: a query, or a command's output.

    Attributes:
        sql: A query that returns one number.
        command: A command that prints one number.
    """

    sql: str | None = Field(default=None, min_length=1)
    command: list[str] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_way(self) -> FreeDisk:
        if (self.sql is None) == (self.command is None):
            raise ValueError("give either sql or command")
        return self


def _off(value: object) -> object:
    """Accept `off`, which YAML takes for false."""
    return None if value is False or value == "off" else value


Ceiled = Annotated[Limits | None, BeforeValidator(_off)]
Floored = Annotated[Floor | None, BeforeValidator(_off)]


class Health(Part):
    """When a migration may work, how fast, and what the server must be spared.

    Attributes:
        max_rows_per_second: How many records one process moves at most; without it, as many as
            it can.
        window: When it works; without one, at any time.
        look_seconds: How often is looked.
        hold_minutes: How long workers wait for the server to be well; then the migration stops.
        replica_lag_seconds: How long ago the server wrote what a replica has reached.
        replica_lag_megabytes: How much WAL a replica has yet to replay.
        slot_lag_megabytes: How much WAL a replication slot keeps, whether it is used or not.
        oldest_transaction_seconds: The age of somebody else's transaction that keeps dead rows.
        blocked_sessions: How many sessions have been waiting for one of our workers.
        wal_megabytes_per_second: How much WAL is written, by whomever.
        free_disk_megabytes: What is left on the server's disk.
        free_disk_from: Who knows that, where it is not this machine's disk.
    """

    max_rows_per_second: int | None = Field(default=None, ge=1)
    window: Annotated[list[Window], BeforeValidator(_one_or_many_windows)] = Field(
        default_factory=list
    )
    look_seconds: float = Field(default=2.0, ge=0.1, le=3600)
    hold_minutes: float = Field(default=60.0, gt=0)
    replica_lag_seconds: Ceiled = Limits(slow=5, hold=60)
    replica_lag_megabytes: Ceiled = Limits(slow=64, hold=1024)
    slot_lag_megabytes: Ceiled = Limits(slow=4096, hold=16384)
    oldest_transaction_seconds: Ceiled = Limits(slow=600, hold=3600)
    blocked_sessions: Ceiled = Limits(slow=2, hold=20)
    wal_megabytes_per_second: Ceiled = None
    free_disk_megabytes: Floored = Floor(slow=2048, hold=512)
    free_disk_from: FreeDisk | None = None
