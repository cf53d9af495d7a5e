"""How long something is kept is read strictly, and counted by the calendar."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from inventory_migration.mapping import Retention, later
from inventory_migration_tests import stage

pytestmark = pytest.mark.one_server


@pytest.mark.parametrize(
    ("duration", "end"),
    [
        ("90 days", "2024-04-30"),
        ("1 day", "2024-02-01"),
        ("2 weeks", "2024-02-14"),
        ("1 month", "2024-02-29"),
        ("13 months", "2025-02-28"),
        ("7 years", "2031-01-31"),
    ],
)
def test_a_duration_is_counted_by_the_calendar(duration: str, end: str) -> None:
    moment = datetime(2024, 1, 31, 12, tzinfo=UTC)
    assert later(moment, duration).date().isoformat() == end
    assert later(moment, duration).time() == moment.time()


@pytest.mark.parametrize(
    "wrong", ["", "90", 90, "0 days", "-1 days", "1.5 years", "90 Days", "90days", "1 y",
              " 1 day", "1 day ", "1 day 2 days", "100000 days", "2000 years", None, True]
)  # fmt: skip
def test_what_is_no_duration_is_refused(wrong: object) -> None:
    if wrong is None:
        assert Retention(keep_online=wrong).keep_online is None
        return
    with pytest.raises(ValidationError):
        Retention.model_validate({"keep_online": wrong})


def test_an_archive_is_not_gone_before_the_records_and_both_are_no_part_of_what_moves() -> None:
    with pytest.raises(ValidationError, match=r"keep_archive \(2 months\) is shorter than"):
        Retention(keep_online="90 days", keep_archive="2 months")
    kept = stage.mapping(retention={"keep_online": "90 days", "keep_archive": "7 years"})
    assert kept.hash == stage.MAPPING.hash
    assert kept.model_dump(mode="json")["retention"]["keep_archive"] == "7 years"
