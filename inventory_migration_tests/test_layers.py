"""Imports point down only, and what costs seconds is imported where it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.one_server

PACKAGE = Path(__file__).resolve().parent.parent / "inventory_migration"

# From the top; a module may import its own layer and those below.
LAYERS = [
    {"cli", "definitions", "dashboard"},
    {"defs"},
    {
        "verbs",
        "steering",
        "quarantine",
        "inquiries",
        "keeping",
        "clearing",
        "acceptance",
        "monitoring",
        "metrics",
        "audits",
        "watching",
    },
    {"archive", "audit", "notifications", "quality", "report", "proposal"},
    {"engine"},
    {"mapping", "catalog", "demo", "examples"},
    {"plain"},
    {"database", "embedded", "binaries", "accounts"},
    {"project", "logs"},
    {"errors"},
]
HEIGHT = {name: -number for number, layer in enumerate(LAYERS) for name in layer}

# Who may import what costs seconds at all, and who may do so while it is itself being imported.
COSTLY = {
    "dagster": ({"defs", "definitions", "cli"}, {"defs", "definitions"}),
    "great_expectations": ({"quality"}, set()),
    "pandas": ({"audit", "quality", "report"}, set()),
    "pyarrow": ({"archive"}, set()),
    "prometheus_client": ({"metrics"}, set()),
    "plotly": ({"report", "dashboard"}, set()),
    "nicegui": ({"dashboard"}, {"dashboard"}),
}
LEAN = {name: {"database", "project", "errors"} for name in ("demo", "examples")}


def modules() -> list[Path]:
    """Return every module of the package but the package itself, which loads its verbs lazily."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def name_of(path: Path) -> str:
    """Return a module's path within the package, as `engine/plan.py`."""
    return path.relative_to(PACKAGE).as_posix()


def unit_of(path: Path) -> str:
    """Return the part of the package that a module belongs to, which is what has a layer."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield each imported module's full name, and whether importing this module imports it."""
    tree = ast.parse(path.read_text())
    package = ["inventory_migration", *path.relative_to(PACKAGE).parent.parts]
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    deferred = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        eager = id(node) not in deferred and id(node) not in typing_only
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, eager
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{origin}.{alias.name}", eager


def own_units(path: Path) -> set[str]:
    """Return the parts of the package that a module imports."""
    found = set()
    for name, _ in imports(path):
        parts = name.split(".")
        if parts[0] == "inventory_migration" and len(parts) > 1:
            found.add(parts[1])
    return found & HEIGHT.keys()


def test_every_module_has_a_layer() -> None:
    units = {unit_of(path) for path in modules()}
    assert units - HEIGHT.keys() - {"expectations", "mappings"} == set()


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_down(path: Path) -> None:
    unit = unit_of(path)
    upward = {other for other in own_units(path) if HEIGHT[other] > HEIGHT[unit]}
    assert upward == set()
    if unit in LEAN:
        assert own_units(path) - {unit} <= LEAN[unit]


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_what_costs_seconds_is_imported_where_it_is_used(path: Path) -> None:
    unit = unit_of(path)
    for name, eager in imports(path):
        allowed, allowed_eagerly = COSTLY.get(name.split(".")[0], ({unit}, {unit}))
        assert unit in allowed, f"{name} is not for {unit}"
        assert not eager or unit in allowed_eagerly, f"import {name} inside the function"


def test_an_upward_import_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "engine" / "shapes").mkdir(parents=True)
    module = tmp_path / "engine" / "shapes" / "level.py"
    module.write_text(
        "from ...report import html\n"
        "from inventory_migration import cli\n"
        "import inventory_migration.quality.suites\n"
        "def f():\n    import inventory_migration.defs.assets\n"
    )
    assert own_units(module) == {"report", "cli", "quality", "defs"}


def test_importing_the_package_costs_and_connects_nothing() -> None:
    script = """
import socket, sys
def refuse(*_): raise AssertionError("connected while importing")
socket.socket.connect = refuse
import inventory_migration
assert inventory_migration.__version__
dear = {"dagster", "great_expectations", "pandas", "numpy", "sqlalchemy", "psycopg", "pydantic"}
print(sorted(dear & sys.modules.keys()))
"""
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_help_waits_for_nothing_that_only_a_command_needs() -> None:
    script = f"""
import contextlib, io, sys
from inventory_migration.cli import app
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    app(["--help"])
print(sorted({{*{[*COSTLY]}, "sqlalchemy", "psycopg", "pydantic", "yaml"}} & sys.modules.keys()))
"""
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_the_public_verbs_are_there_and_a_misspelt_one_is_not() -> None:
    import inventory_migration

    assert callable(inventory_migration.migrate_existing_stock_to_default_location)
    assert callable(inventory_migration.create_default_warehouse_per_company)
    with pytest.raises(AttributeError, match="migrate_everything"):
        _ = inventory_migration.migrate_everything
