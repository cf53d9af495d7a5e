"""The whole engine against a model in plain Python: any records, migrated in a real database.

What must become of a record is said in `model.py`; here an application of arbitrary rows
(`model_application.py`) is migrated and compared, through what the tables hold. The rules alone,
with many more examples, are held against a model in `test_canonical.py`.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, seed, settings

from inventory_migration.embedded import EmbeddedServer
from inventory_migration.engine import ledger, plan, summary
from inventory_migration.engine.reconcile import Reconciled
from inventory_migration.engine.snapshot import write_snapshot
from inventory_migration_tests import model, stage
from inventory_migration_tests.conftest import made_database
from inventory_migration_tests.model import Fate, Key, Record, World
from inventory_migration_tests.model_application import (
    COMPANIES,
    Case,
    Example,
    Meanwhile,
    add_stock,
    examples,
    interrupted_examples,
    lay_out,
    mapping,
    quantities,
    shown,
    state,
    work_on,
)
from inventory_migration_tests.model_targets import TARGETS
from inventory_migration_tests.test_rollback import undo

pytestmark = [pytest.mark.slow, pytest.mark.one_server]

# The same examples each time. They are not made smaller: a run takes a second, and what differs is
# told record by record.
EXAMPLES = settings(
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(
    scope="module",
    params=[(shape, kind) for shape in TARGETS for kind in quantities],
    ids=lambda case: "-".join(case),
)
def case(server: EmbeddedServer, request: pytest.FixtureRequest) -> Iterator[Case]:
    shape, kind = request.param
    with made_database(server) as database:
        yield Case(database, TARGETS[shape], kind, f"{shape} {kind}")


def default_locations(case: Case, example: Example, before: dict[int, str]) -> dict[int, int]:
    """The default location of every company, once each has the one it had or a new one."""
    with case.database.engine.connect() as connection:
        found = connection.execute(
            sa.text("SELECT id, company_id, name, code, is_default, to_jsonb(l)::text AS row "
                    "FROM locations l")
        ).all()  # fmt: skip
    new = [row for row in found if row.id not in example.owners]
    assert {r.id: r.row for r in found if r not in new} == {
        key: row for key, row in before.items() if key in example.owners
    }
    assert all((r.name, r.code, r.is_default) == ("Main warehouse", "MAIN", True) for r in new)
    assert sorted(row.company_id for row in new) == sorted(COMPANIES - example.with_default)
    return {**example.defaults, **{row.company_id: row.id for row in new}}


def ledger_fates(case: Case, example: Example, stock: Mapping[Key, str]) -> dict[Key, Fate]:
    """Outcome and rule of every record, as the ledger's tables say; each is there once."""
    count = len(example.key_columns)
    names = ", ".join(f"p.key_{n + 1}" for n in range(count))
    written = "".join(f" - '{name}'" for name in case.target.columns)
    with case.database.engine.connect() as connection:
        found = connection.execute(
            sa.text(f"""
                SELECT {names}, k.state, o.outcome, o.rule, o.reason,
                       (o.record{written})::text AS record
                FROM inventory_migration.snapshot_1 AS p
                LEFT JOIN inventory_migration.chunk AS k
                       ON k.migration_id = 1 AND k.number = p.chunk
                LEFT JOIN inventory_migration.outcome AS o
                       ON o.migration_id = 1 AND o.position = p.position
            """)
        ).all()
    fates = {}
    for row in found:
        key = tuple(row)[:count]
        assert row.state == "done"
        if row.outcome == "quarantined":
            assert row.reason
            assert row.record == stock[key]
        fates[key] = Fate(row.outcome or "migrated", row.rule)
    assert len(fates) == len(found)
    return fates


def differing(found: Mapping[Any, Any], wanted: Mapping[Any, Any]) -> dict[Any, Any]:
    """Only what differs: found and wanted, by key."""
    return {
        key: (found.get(key), wanted.get(key))
        for key in {**found, **wanted}
        if found.get(key) != wanted.get(key) or (key in found) != (key in wanted)
    }


def assert_same(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    assert {part: differing(found[part], wanted[part]) for part in wanted} == {
        part: {} for part in wanted
    }


def assert_told(
    case: Case, fates: Collection[Fate], records: Collection[Record], basis: str, *, alone: bool
) -> None:
    """The summary adds up to the model's counts and units, before and after."""
    outcomes = Counter(fate.outcome for fate in fates)
    rules = Counter(fate.rule for fate in fates if fate.outcome == "quarantined")
    with case.database.engine.connect() as connection:
        migration = ledger.find(connection, migration_id=1)
        told = summary.summarize(connection, migration, mapping="shop", changed=True)
    assert told["state"] == "verified"
    counts = {name: outcomes[name] for name in summary.OUTCOMES}
    assert told["records"] == {"snapshot": len(fates), **counts, "pending": 0}
    assert told["quarantined"] == rules
    changed = {name: Decimal(said) for name, said in told["changed_by_application"].items()}
    if alone:
        assert set(changed.values()) == {0}
    wanted = model.units(records, basis)
    changed["available"] = model.units_available(changed["units"], changed["reserved"], basis)
    for name, units in wanted.items():
        assert Decimal(told[name]["after"]) == units
        assert model.EXACT.add(Decimal(told[name]["before"]), changed[name]) == units


def assert_conserved(
    case: Case, fates: Mapping[Key, Fate], holds: Mapping[Key, Any],
    records: Mapping[Key, Record], now: Mapping[Key, Record], basis: str,
) -> None:  # fmt: skip
    """Count, units, reserved and available agree by company and item, read from the target."""
    after = []
    for key, record in now.items():
        if fates[key].outcome != "migrated":
            after.append((record, model.counted(record, basis)))
            continue
        for held in case.target.held(holds[key], record, basis):
            available = model.EXACT.subtract(held.on_hand, held.reserved)
            after.append((record, (held.on_hand, held.reserved, available)))
    before = [(record, model.counted(record, basis)) for record in records.values()]
    assert differing(model.totals(after), model.totals(before)) == {}


def assert_as_the_model_says(
    case: Case, example: Example, done: Reconciled, before: Mapping[str, Any],
    records: Mapping[Key, Record], gone: Collection[Key] = (), *, alone: bool = True,
) -> None:  # fmt: skip
    """Hold a migration against the model, then a second one and the way back.

    Args:
        case: The database.
        example: The application.
        done: What the migration says of itself.
        before: The application's state before the first chunk.
        records: The records that there were then.
        gone: Keys of records that had been there when the migration was planned.
        alone: The application did nothing since then.
    """
    target, basis = case.target, example.basis
    # What others have allocated is listed where it does not say what the record does.
    theirs = [d for d in done.proof.differences if d.kind == "target_of_others_differs"]
    assert [d for d in done.proof.differences if d not in theirs] == []
    after = state(case, example)
    defaults = default_locations(case, example, before["locations"])
    world = World(COMPANIES, example.owners, defaults)
    fates = model.migrate(records.values(), world, example.rules, basis)
    told = {key: Fate(fate.outcome, fate.rule) for key, fate in fates.items()}
    told.update(dict.fromkeys(gone, Fate("gone")))
    already = [fate for fate in fates.values() if fate.outcome == "already"]
    assert sum(difference.records for difference in theirs) <= len(already)
    assert differing(ledger_fates(case, example, before["stock"]), told) == {}
    assert_same(after, {"stock": before["stock"]})
    moved = {key: [fate.held] for key, fate in fates.items() if fate.held}
    stays = {key: held for key, held in before["target"].items() if key not in moved}
    assert differing({k: v for k, v in after["target"].items() if k not in moved}, stays) == {}
    holds = {key: target.held(after["target"][key], records[key], basis) for key in moved}
    assert differing(holds, moved) == {}
    assert_told(case, told.values(), records.values(), basis, alone=alone)
    assert_conserved(case, fates, after["target"], records, shown(case, example), basis)

    assert stage.migrate(case.database, mapping(case, example)).changed is False
    assert_same(state(case, example), after)
    assert differing(ledger_fates(case, example, before["stock"]), told) == {}

    undo(case.database, mapping(case, example))
    assert case.database.psql("SELECT count(*) FROM inventory_migration.conflict") == "0"
    new = {key: row for key, row in before["locations"].items() if key in example.owners}
    assert_same(state(case, example), {**before, "locations": new})


def compare(case: Case, example: Example) -> None:
    lay_out(case, example)
    add_stock(case, example, example.rows)
    records, before = shown(case, example), state(case, example, expanded=False)
    done = stage.migrate(case.database, mapping(case, example))
    assert_as_the_model_says(case, example, done, before, records)


def compare_interrupted(case: Case, example: Example, meanwhile: Meanwhile) -> None:
    lay_out(case, example)
    add_stock(case, example, [row for row in example.rows if row not in meanwhile.late])
    chosen, engine = mapping(case, example), case.database.engine
    migration = stage.locations(case.database, chosen)
    assert migration is not None
    write_snapshot(engine, plan.read_mapping(engine, chosen), migration)
    work_on(case, example, meanwhile)
    records, before = shown(case, example), state(case, example)
    stage.transform(case.database, chosen)
    done = stage.close(case.database, chosen)
    assert_as_the_model_says(case, example, done, before, records, meanwhile.deleted, alone=False)


def test_any_records_end_as_the_model_says_and_are_put_back(case: Case) -> None:
    @seed(zlib.crc32(case.name.encode()))
    @settings(EXAMPLES, max_examples=5)
    @given(examples(case.kind))
    def holds(example: Example) -> None:
        compare(case, example)

    holds()


# Numbers of one type are enough: what happens meanwhile happens to the row.
@pytest.mark.parametrize(
    "case", [(shape, "numeric") for shape in TARGETS], indirect=True, ids="-".join
)
def test_what_the_application_does_meanwhile_is_migrated_as_it_is_then(case: Case) -> None:
    @seed(zlib.crc32(case.name.encode()))
    @settings(EXAMPLES, max_examples=3)
    @given(interrupted_examples(case.kind))
    def holds(drawn: tuple[Example, Meanwhile]) -> None:
        compare_interrupted(case, *drawn)

    holds()
