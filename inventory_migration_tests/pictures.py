"""Pictures of migrations as the poller has them, for what is shown of them."""

from __future__ import annotations

import copy
from typing import Any

_AT = "2026-11-27T14:32:53.123456+00:00"

_PICTURE: dict[str, Any] = {
    "migration_id": 7,
    "mapping": "stock_items",
    "state": "running",
    "reason": None,
    "desired": "run",
    "desired_reason": None,
    "desired_by": "ann",
    "desired_at": _AT,
    "at": _AT,
    "started_at": _AT,
    "finished_at": None,
    "elapsed_seconds": 95.5,
    "active_seconds": 61.0,
    "started_by": "ann by inventory-migration",
    "run_ids": ["dbe2da2f"],
    "stage": "moving",
    "working": {"driver": True, "workers": 2, "last_sign_at": _AT},
    "records": {
        "snapshot": 24000, "migrated": 12001, "already": 10, "skipped": 20, "quarantined": 30,
        "gone": 4, "pending": 11935, "undone": 0,
    },
    "units": {"snapshot": "2211269.5", "accounted": "1100000", "difference": "0"},
    "reserved": {"snapshot": "21820", "accounted": "10000", "difference": "0"},
    "percent": 50.27,
    "rate": {"now": 812.4, "average": 640.0},
    "eta": {"seconds": 250.0, "low": 190.0, "high": 420.0, "at": _AT},
    "phases": [
        {
            "number": number, "name": name, "companies": 1, "records": 100, "records_done": done,
            "records_undone": 0, "quarantined": 3, "failed_attempts": 1,
            "chunks": 4, "chunks_done": done // 25,
            "started_at": _AT, "finished_at": _AT, "reconciled_at": reconciled,
        }
        for number, name, done, reconciled in (
            (1, "pilot", 100, _AT), (2, "early", 100, None), (3, "rest", 50, None),
            (4, "sweep", 0, None),
        )
    ],
    "attempts": {
        "failed": 5, "chunks": 3, "per_minute": 1.25,
        "by_error": [{"error": "55P03", "attempts": 5, "chunks": 3}],
    },
    "quarantine": [
        {"rule": "quantity_missing", "reason": "no quantity", "records": 30, "sample": ["11", "12"]}
    ],
    "timeline": [
        {
            "at": f"2026-11-27T14:32:{second:02d}+00:00", "chunks": 5, "records": 500,
            "seconds": 2.0, "seconds_median": 0.041, "seconds_max": 0.2,
            "records_per_chunk": 100.0, "workers": 1.6,
            "records_per_second": 250.0, "difference": "0",
        }
        for second in (10, 12, 14, 40, 42)
    ],
    "health": {
        "verdict": "slow",
        "reasons": [{"measure": "blocked_sessions", "level": "slow", "text": "3 wait for us"}],
        "observed": {
            "max_rows_per_second": 500,
            "measures": [
                {
                    "measure": "blocked_sessions", "unit": "sessions", "value": 3.0, "slow": 1.0,
                    "hold": 10.0, "level": "slow", "what": "4711", "unknown": None, "since": _AT,
                },
                {
                    "measure": "replica_lag_seconds", "unit": "s", "value": None, "slow": 5.0,
                    "hold": 30.0, "level": "well", "what": "",
                    "unknown": "not allowed", "since": _AT,
                },
            ],
        },
        "since": _AT,
        "at": _AT,
    },
    "gates": [
        {
            "suite": "audit_profile", "passed": True, "judged_at": _AT, "expectations": 18,
            "failed": [
                {
                    "key": "unique", "rule": "item_duplicate", "severity": "warning",
                    "observed": 3, "sample": ["9"], "error": None,
                }
            ],
        },
        {
            "suite": "default_locations", "passed": False, "judged_at": _AT, "expectations": 2,
            "failed": [
                {
                    "key": "one", "rule": None, "severity": "critical", "observed": None,
                    "sample": [], "error": "no such column",
                }
            ],
        },
    ],
    "events": [
        {
            "event_id": 3, "at": _AT, "who": "ann", "kind": "state_running",
            "detail": {"reason": "asked to", "more": {"records": [1, 2]}},
        }
    ],
}  # fmt: skip

_LISTED: dict[str, Any] = {
    "migration_id": 7, "mapping": "stock_items", "state": "running", "reason": None,
    "phase": "early", "records": 24000, "records_done": 12065, "rows_migrated": 12001,
    "quarantined": 30, "started_at": _AT, "finished_at": None, "elapsed_seconds": 95.5,
    "working": True, "health": None, "archived": None, "percent": 50.27,
    "rate": {"now": 812.4, "average": 640.0},
    "eta": {"seconds": 250.0, "low": 190.0, "high": 420.0, "at": _AT},
}  # fmt: skip

COMPANIES: dict[str, Any] = {
    "total": 61,
    "companies": [
        {
            "company_key": "3", "company_name": "Acme", "location_key": "9",
            "location_created": True, "snapshot": 12, "migrated": 5, "already": 1, "skipped": 1,
            "quarantined": 1, "gone": 0, "pending": 4, "units": "12.5", "reserved": "0",
        }
    ],
}  # fmt: skip


def picture(**changes: Any) -> dict[str, Any]:
    """Return a migration half done, with something of everything, changed as said."""
    return copy.deepcopy(_PICTURE) | changes


def listed(**changes: Any) -> dict[str, Any]:
    """Return the same migration as the list in front has it."""
    return copy.deepcopy(_LISTED) | changes
