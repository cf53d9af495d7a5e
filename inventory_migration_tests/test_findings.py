"""Findings: one for each expectation that was not met, with all that a person needs to decide."""

from __future__ import annotations

import pytest

from inventory_migration.audit.findings import at_least, findings, to_json, to_markdown
from inventory_migration_tests.canonical_tables import judged, make_tables
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.stage import MAPPING, mapping

pytestmark = pytest.mark.one_server


def test_findings_are_ordered_by_consequence_and_say_what_will_be_done(database: Database) -> None:
    make_tables(database)
    database.psql(
        """
        UPDATE records SET quantity = -1, reserved = 0 WHERE key_1 IN (1, 2);
        UPDATE records SET quantity = NULL, quantity_state = 'missing' WHERE key_1 = 4;
        UPDATE companies SET default_locations = 2 WHERE company_key = 3;
        INSERT INTO default_locations VALUES (104, 9, false), (105, NULL, NULL);
        """
    )
    verdict = judged(database, "audit_profile")
    found = findings(verdict, MAPPING)
    assert [(f.severity, f.key, f.count, f.sample) for f in found] == [
        ("critical", "default-location-unambiguous", 1, ("3, Idle",)),
        ("critical", "default-location-of-a-company", 2, ("104", "105")),
        ("warning", "quantity-present", 1, ("4",)),
        ("warning", "quantity-not-negative", 2, ("1", "2")),
    ]
    assert [f.effect.split(":")[0] for f in found] == [
        "Refuses to start", "Refuses to start", "Puts them into quarantine",
        "Moves them as they are, and counts them in the report.",
    ]  # fmt: skip
    for finding in found:
        assert all((finding.why, finding.advice, finding.expected))
        shown = database.psql(finding.sql).splitlines()
        assert len(shown) == finding.count, finding.sql
    assert [f.key for f in at_least(found, "critical")] == [f.key for f in found[:2]]
    assert to_json(found)["counts"] == {"critical": 2, "warning": 2, "info": 0}


def test_what_the_tool_will_do_follows_the_mappings_own_rules(database: Database) -> None:
    make_tables(database)
    database.psql("UPDATE records SET quantity = -1 WHERE key_1 = 4")
    verdict = judged(database, "audit_profile")
    (careful,) = findings(verdict, mapping(rules={"negative_quantity": "quarantine"}))
    assert careful.effect.startswith("Puts them into quarantine")


def test_an_audit_without_findings_says_so_and_nothing_of_a_database_is_markup(
    database: Database,
) -> None:
    make_tables(database)
    assert findings(judged(database, "audit_profile"), MAPPING) == []
    assert to_markdown([]) == "## Findings\n\nNone: every expectation is met.\n"
    database.psql("UPDATE records SET key_text = '<b>|`x`', quantity = -1 WHERE key_1 = 4")
    said = to_markdown(findings(judged(database, "audit_profile"), MAPPING))
    assert r"- For example: \<b\>\|\`x\`" in said
    assert "```sql\nSELECT r.* FROM (" in said


def test_what_could_not_be_looked_at_is_critical_and_never_silent(database: Database) -> None:
    make_tables(database)
    database.psql("ALTER TABLE records DROP COLUMN quantity_state")
    found = [f for f in findings(judged(database, "audit_profile"), MAPPING) if f.error]
    assert {f.key for f in found} == {"quantity-present", "quantity-numeric"}
    assert {f.severity for f in found} == {"critical"}
    assert found[0].effect.startswith("Refuses to start: of what could not be looked at")
