"""The code location: it loads whatever a user's files look like, and explains itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from inventory_migration import project
from inventory_migration.defs.assets import build_tables
from inventory_migration.defs.build import build_definitions, known_mappings
from inventory_migration.defs.checks import VERIFIED
from inventory_migration.defs.options import RunOptions
from inventory_migration.mapping import named_mapping
from inventory_migration_tests import stage
from inventory_migration_tests.dagster_runs import PROJECT, STEPS

pytestmark = pytest.mark.one_server

ITEMS = named_mapping("stock_items")


@pytest.fixture
def own_mappings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of mappings of the user's own, with a good one."""
    monkeypatch.setenv("INVENTORY_MAPPINGS", str(tmp_path))
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(stage.DEFINITION))
    return tmp_path


def names(definitions: dg.Definitions) -> set[str]:
    """Return the names of all jobs but Dagster's own."""
    jobs = definitions.get_repository_def().get_all_jobs()
    return {job.name for job in jobs if not job.name.startswith("__")}


def fields(type_: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every field of a configuration, with the path to it."""
    inner = getattr(type_, "inner_type", None)
    if inner is not None:
        yield from fields(inner, path)
    for name, field in getattr(type_, "fields", {}).items():
        yield f"{path}{name}", field
        yield from fields(field.config_type, f"{path}{name}.")


def test_a_mapping_has_its_assets_jobs_and_schedules() -> None:
    definitions = build_definitions([ITEMS])
    assert names(definitions) == {
        "abort_stock_items",
        "acceptance_stock_items",
        "dry_run_stock_items",
        "migrate_stock_items",
        "pause_stock_items",
        "retry_quarantine_stock_items",
        "rollback_stock_items",
        "validate_stock_items",
        "monitor_stock_items",
    }
    graph = definitions.resolve_asset_graph()
    before: set[dg.AssetKey] = {
        dg.AssetKey(["public", "companies"]),
        dg.AssetKey(["public", "stock_items"]),
    }
    for step in STEPS:
        node = graph.get(dg.AssetKey(["stock_items", step]))
        assert node.parent_keys == before
        assert node.group_name == "stock_items"
        assert node.owners
        assert "postgres" in node.kinds
        before = {node.key}
    assert definitions.executor is dg.in_process_executor


def test_every_expectation_is_a_blocking_check() -> None:
    graph = build_definitions([ITEMS]).resolve_asset_graph()
    for step in STEPS:
        raw = json.loads(project.find("expectations", f"{step}.json").read_text())
        wanted = {
            e["meta"]["key"].replace("-", "_"): e["description"]
            for e in raw["expectations"]
            if e["meta"].get("rule") not in ITEMS.rules_without_meaning
        }
        keys = graph.get_check_keys_for_assets({dg.AssetKey(["stock_items", step])})
        specs = [graph.get_check_spec(key) for key in keys]
        assert all(spec.blocking for spec in specs)
        found = {spec.name: spec.description for spec in specs}
        if step == "reconciliation_report":
            assert found.pop(VERIFIED)
        assert found == wanted


def test_a_rule_that_does_not_apply_has_no_check() -> None:
    net = ITEMS.model_copy(update={"quantity_basis": "net"})
    graph = build_definitions([net]).resolve_asset_graph()
    keys = graph.get_check_keys_for_assets({dg.AssetKey(["stock_items", "audit_profile"])})
    assert "reserved_within_quantity" not in {key.name for key in keys}
    assert "row_count" in {key.name for key in keys}


def test_everything_says_what_it_is() -> None:
    definitions = build_definitions([ITEMS])
    repository = definitions.get_repository_def()
    graph = definitions.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        first_line = (graph.get(key).description or "").partition("\n")[0]
        assert len(first_line) > 20, key
        assert first_line.endswith("."), key
    described: dict[str, str | None] = {
        **{s.name: s.description for s in repository.schedule_defs},
        **{s.name: s.description for s in repository.sensor_defs},
    }
    for key in graph.asset_check_keys:
        described[str(key)] = graph.get_check_spec(key).description
    for name in names(definitions):
        described[name] = definitions.resolve_job_def(name).description
    assert len(described) > 30
    assert {name for name, said in described.items() if not said or len(said) < 10} == set()


def test_every_field_that_a_run_can_be_told_says_what_it_does() -> None:
    definitions = build_definitions([ITEMS])
    seen: dict[str, str | None] = {}
    for name in names(definitions):
        job = definitions.resolve_job_def(name)
        mapped = job.config_mapping
        if mapped is not None:
            for path, field in fields(mapped.config_schema.config_type):
                seen[f"{name}: {path}"] = field.description
        for op in job.all_node_defs:
            if op.config_schema:
                for path, field in fields(op.config_schema.config_type):
                    seen[f"{op.name}: {path}"] = field.description
    told = {path.split(": ")[1] for path in seen if "env" not in path}
    assert {
        "resume", "explicit", "as_superuser", "workers", "stop_after", "migration_id", "reason",
    } <= told  # fmt: skip
    ours = {path: said for path, said in seen.items() if path.split(": ")[1] in told}
    assert {path for path, said in ours.items() if not said} == set()


def test_what_no_rewrite_can_do_is_refused_before_the_first_step() -> None:
    chosen = RunOptions(rewrite=True, maintenance_window=True).start("run")
    assert (chosen.rewrite, chosen.maintenance_window) == (True, True)
    for said, options in {
        "for a maintenance window only": {},
        "leave stop_after out": {"maintenance_window": True, "stop_after": "pilot"},
        "leave max_rows_per_second out": {"maintenance_window": True, "max_rows_per_second": 9},
    }.items():
        with pytest.raises(ValueError, match=said):
            RunOptions(rewrite=True, **options)


def test_no_step_is_retried_by_itself() -> None:
    definitions = build_definitions([ITEMS])
    for name in names(definitions):
        job = definitions.resolve_job_def(name)
        for op in job.all_node_defs:
            assert op.retry_policy is None, op.name


def test_nothing_runs_by_itself_until_somebody_says_so() -> None:
    repository = build_definitions([ITEMS]).get_repository_def()
    assert {s.name: s.default_status.value for s in repository.schedule_defs} == {
        "rerun_stock_items": "STOPPED",
        "monitor_stock_items": "STOPPED",
    }
    assert {s.name: s.default_status.value for s in repository.sensor_defs} == {
        "note_failed_runs": "STOPPED",
        "watch_migrations": "STOPPED",
    }


def test_loading_connects_to_nothing_and_leaves_great_expectations_alone(tmp_path: Path) -> None:
    script = """
import socket, subprocess, sys
import dagster, psycopg
def refuse(*_, **__): raise AssertionError("connected or started something while loading")
socket.socket.connect = psycopg.Connection.connect = subprocess.Popen.__init__ = refuse
from inventory_migration.definitions import defs
assert defs.resolve_job_def("migrate_stock_items")
print(sorted({"great_expectations", "pandas"} & sys.modules.keys()))
"""
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PROJECT,
        env={"PATH": "/usr/bin:/bin", "INVENTORY_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.strip() == "[]", ended.stderr
    assert not (tmp_path / "home").exists()


def test_a_users_mapping_is_found_beside_those_that_ship(own_mappings: Path) -> None:
    assert own_mappings.is_dir()
    assert {"migrate_shop", "migrate_stock_items"} <= names(build_definitions())


def test_a_broken_mapping_is_named_and_the_others_load(
    own_mappings: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (own_mappings / "broken.yaml").write_text("name: broken\ncompany: {tabel: x}\n")
    (own_mappings / "worse.yaml").write_text("{")
    definitions = build_definitions()
    assert {"migrate_shop", "migrate_stock_items"} <= names(definitions)
    problems = str((definitions.metadata or {})["problems"])
    for said in (problems, caplog.text):
        assert f"mapping broken was left out: {own_mappings / 'broken.yaml'}, line 2" in said
        assert "company.tabel: unknown key" in said
        assert "mapping worse was left out" in said
    dg.Definitions.validate_loadable(definitions)


def test_a_folder_that_is_not_there_loads_nothing_and_says_so(
    own_mappings: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(own_mappings)
    definitions = build_definitions()
    assert names(definitions) == set()
    assert f"The folder {own_mappings} can not be used" in caplog.text
    dg.Definitions.validate_loadable(definitions)


def test_of_two_mappings_with_one_name_the_one_called_so_is_taken(own_mappings: Path) -> None:
    (own_mappings / "a_copy.yaml").write_text(yaml.safe_dump(stage.DEFINITION))
    found, problems = known_mappings()
    assert [mapping.name for mapping in found].count("shop") == 1
    assert len(problems) == 1
    assert "mapping a_copy was left out" in problems[0]


def test_a_table_of_two_mappings_is_one_asset() -> None:
    specs = build_tables([ITEMS, stage.mapping(locations={**_locations(), "add": False})])
    assert sorted("/".join(spec.key.path) for spec in specs) == [
        "public/companies",
        "public/locations",
        "public/stock_items",
    ]
    dg.Definitions.validate_loadable(build_definitions([ITEMS, stage.MAPPING]))


def test_tables_with_any_name_load() -> None:
    company = {"table": {"schema": "my shop", "name": 'Ten"ant-s.x'}, "key": "id", "name": "name"}
    definitions = build_definitions([stage.mapping(company=company)])
    dg.Definitions.validate_loadable(definitions)
    keys = definitions.resolve_asset_graph().get_all_asset_keys()
    assert dg.AssetKey(["my_shop", "Ten_ant_s_x"]) in keys


def test_resources_can_be_replaced() -> None:
    given = {"database": dg.ResourceDefinition.hardcoded_resource("another")}
    resources: Mapping[str, Any] = (
        build_definitions([ITEMS], resource_overrides=given).resources or {}
    )
    assert resources["database"] is given["database"]


def _locations() -> dict[str, Any]:
    return dict(stage.DEFINITION["locations"])
