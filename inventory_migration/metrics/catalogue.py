"""Every metric by name, with what it means and its labels: what a scrape may have, and no more.

Where values come from is in `samples.py`. Labels are of few values each: never a company, a record
or a text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from inventory_migration.engine.measures import MEASURES, MEGABYTE

PREFIX = "inventory_migration_"


@dataclass(frozen=True)
class Metric:
    """A metric of the exporter.

    Attributes:
        name: Its name behind the common prefix.
        meaning: What its value is; shown as HELP.
        labels: What tells its samples apart.
        kind: `counter` only rises, but for a rollback, which begins anew.
    """

    name: str
    meaning: str
    labels: tuple[str, ...] = ()
    kind: Literal["gauge", "counter"] = "gauge"

    @property
    def full_name(self) -> str:
        """Its name as Prometheus knows it."""
        return PREFIX + self.name


def in_base_unit(measure: str) -> tuple[str, int]:
    """A measure of the server's health by its name in base units, and by how much that is more."""
    if "megabytes" in measure:
        return measure.replace("megabytes", "bytes"), MEGABYTE
    return measure, 1


_ONE = ("mapping", "migration_id")
_ALL = ("mapping",)

EXPORTER = (
    Metric("up", "1 where the database answered, 0 where it did not; all else is missing then."),
    Metric("scrape_duration_seconds", "How long the figures took to be read."),
    Metric("observed_timestamp_seconds", "When the figures were read, in Unix time."),
    Metric("build_info", "1, with the version of the tool.", ("version",)),
)

MIGRATIONS = (
    Metric("state", "1 for the state that the migration is in, 0 for others.", (*_ONE, "state")),
    Metric(
        "desired",
        "1 for what is wanted of the migration, 0 for what else there is.",
        (*_ONE, "desired"),
    ),
    Metric("started_timestamp_seconds", "When the migration began, in Unix time.", _ONE),
    Metric("finished_timestamp_seconds", "When it ended, in Unix time.", _ONE),
    Metric("active_seconds", "How long somebody has worked on it.", _ONE),
    Metric("driver_working", "1 where a process drives the migration now.", _ONE),
    Metric("workers", "How many sessions move its chunks now.", _ONE),
    Metric(
        "last_sign_timestamp_seconds",
        "When whoever works was seen to do something last, in Unix time.",
        _ONE,
    ),
    Metric(
        "progress_ratio",
        "How much is done, 0 to 1; 1 only once the proof has passed. Of a rollback how much is "
        "undone.",
        _ONE,
    ),
    Metric("snapshot_records", "Stock records of the migration's snapshot.", _ONE),
    Metric(
        "records",
        "Stock records by what became of them; they add up to the snapshot's.",
        (*_ONE, "outcome"),
    ),
    Metric("undone_records", "Stock records that a rollback has put back.", _ONE),
    Metric("phase_records", "Stock records of each phase.", (*_ONE, "phase")),
    Metric("phase_done_records", "Those of them that have an outcome.", (*_ONE, "phase")),
    Metric("snapshot_units", "Units of the migration's snapshot.", _ONE),
    Metric("accounted_units", "Units that are accounted for so far.", _ONE),
    Metric(
        "difference_units",
        "Units that chunks which are done should have accounted for, and did not: always 0.",
        _ONE,
    ),
    Metric("snapshot_reserved_units", "Reserved units of the migration's snapshot.", _ONE),
    Metric("accounted_reserved_units", "Reserved units that are accounted for so far.", _ONE),
    Metric("difference_reserved_units", "As difference_units, of reserved units.", _ONE),
    Metric("records_per_second", "Records that are moved in a second, of late.", _ONE),
    Metric(
        "average_records_per_second",
        "Records that were moved in a second, while somebody worked.",
        _ONE,
    ),
    Metric(
        "eta_seconds",
        "How long it will still take: expected, and the bounds low and high.",
        (*_ONE, "bound"),
    ),
    Metric(
        "failed_attempts_total",
        "Attempts of chunks that failed and were repeated.",
        _ONE,
        "counter",
    ),
    Metric(
        "attempts_by_error",
        "The same by the SQLSTATE that the chunk failed with last; `none` once it went through.",
        (*_ONE, "error"),
    ),
    Metric("quarantined_records", "Records in quarantine by rule.", (*_ONE, "rule")),
    Metric(
        "quarantine_limit_ratio",
        "Which share of the records may be in quarantine, 0 to 1, as the migration was begun.",
        _ONE,
    ),
    Metric(
        "health_verdict",
        "1 for what the server's health asks of workers: well, slow or hold.",
        (*_ONE, "verdict"),
    ),
    Metric("health_timestamp_seconds", "When the server was looked at last, in Unix time.", _ONE),
)

HEALTH = tuple(
    metric
    for measure in MEASURES
    for name in (in_base_unit(measure.name)[0],)
    for metric in (
        Metric(
            f"health_{name}",
            f"The measure {measure.name} as it was at the last look, in base units.",
            _ONE,
        ),
        Metric(
            f"health_limit_{name}",
            f"Where workers go slowly or wait for {measure.name}, in base units.",
            (*_ONE, "level"),
        ),
    )
)

MAPPINGS = (
    Metric("migrations", "Migrations of the mapping by state.", (*_ALL, "state")),
    Metric(
        "last_success_timestamp_seconds",
        "When a run of the mapping last came to its end with all gates passed, in Unix time; a "
        "run that found nothing new counts.",
        _ALL,
    ),
    Metric(
        "gate_passed", "1 where the gate's last verdict let the next step write.", (*_ALL, "gate")
    ),
    Metric(
        "gate_judged_timestamp_seconds",
        "When the gate's last verdict was given, in Unix time.",
        (*_ALL, "gate"),
    ),
    Metric("monitor_passed", "1 where the last look at migrated stock found nothing wrong.", _ALL),
    Metric("monitor_findings", "How much the last look at migrated stock found wrong.", _ALL),
    Metric(
        "monitor_timestamp_seconds",
        "When migrated stock was last looked at, in Unix time.",
        _ALL,
    ),
    Metric("monitor_stock", "What stock added up to at that look.", (*_ALL, "measure")),
    Metric(
        "monitor_drift", "How far it had drifted since the look before.", (*_ALL, "measure")
    ),
    Metric(
        "monitor_drift_ratio", "The same as a share of what it was, 0.1 for 10 %.",
        (*_ALL, "measure"),
    ),
)  # fmt: skip

METRICS: dict[str, Metric] = {
    metric.name: metric for metric in (*EXPORTER, *MIGRATIONS, *HEALTH, *MAPPINGS)
}
"""All of them by name, in the order in which they are shown."""
