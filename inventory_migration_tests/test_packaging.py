"""What is installed elsewhere is complete: packages, suites, mappings, the command."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

pytestmark = pytest.mark.one_server

PROJECT = Path(__file__).resolve().parent.parent
METADATA = tomllib.loads((PROJECT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that a wheel of this project was installed into."""
    # A copy, since a build writes beside its sources.
    source = tmp_path_factory.mktemp("source") / "project"
    kept = ["inventory_migration", "expectations", "pyproject.toml", "README.md", "LICENSE"]
    source.mkdir()
    for name in kept:
        if (PROJECT / name).is_dir():
            shutil.copytree(
                PROJECT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(PROJECT / name, source / name)
    target = tmp_path_factory.mktemp("site-packages")
    # Built by this environment's setuptools: a test must not need the network.
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
               "--no-build-isolation", "--target", str(target), str(source)]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return target


def elsewhere(installed: Path, working: Path, *command: str) -> str:
    """Run Python as a user of the wheel would: in another folder, with nothing of the checkout."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("INVENTORY_")
    }
    ended = subprocess.run(
        [sys.executable, *command],
        cwd=working,
        env={**environment, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def shipped(folder: str, pattern: str) -> list[str]:
    """Return the names of the files that the checkout has to ship."""
    return sorted(path.stem for path in (PROJECT / folder).glob(pattern))


def test_a_wheel_installed_elsewhere_finds_its_suites_and_mappings(
    installed: Path, tmp_path: Path
) -> None:
    script = """
import json
from inventory_migration.project import find, listing
print(json.dumps({
    "mappings": {name: str(path) for name, path in listing("mappings", ".yaml").items()},
    "expectations": {name: str(path) for name, path in listing("expectations", ".json").items()},
    "one": str(find("expectations", "audit_profile.json")),
}))
"""
    told = json.loads(elsewhere(installed, tmp_path, "-c", script))
    assert list(told["mappings"]) == shipped("inventory_migration/mappings", "*.yaml")
    assert list(told["expectations"]) == shipped("expectations", "*.json")
    paths = [told["one"], *told["mappings"].values(), *told["expectations"].values()]
    assert all(Path(path).is_relative_to(installed) for path in paths)


def test_a_wheel_has_every_module_and_example_and_says_that_it_is_typed(installed: Path) -> None:
    def files(folder: Path, pattern: str) -> set[str]:
        return {path.relative_to(folder).as_posix() for path in folder.rglob(pattern)}

    package = installed / "inventory_migration"
    for pattern in ("*.py", "*.sql", "examples/*/*.yaml", "*/schema.json"):
        there = files(PROJECT / "inventory_migration", pattern)
        assert files(package, pattern) == there
        assert there
    assert (package / "py.typed").is_file()


def test_a_wheel_has_the_command_and_the_licence(installed: Path, tmp_path: Path) -> None:
    script = """
from importlib.metadata import distribution
found = distribution("inventory-migration")
print(found.version, found.metadata["License-Expression"])
print(*[entry.value for entry in found.entry_points if entry.name == "inventory-migration"])
"""
    version, command = elsewhere(installed, tmp_path, "-c", script).splitlines()
    assert version == "0.1.0 Apache-2.0"
    assert command == METADATA["project"]["scripts"]["inventory-migration"]
    assert next(installed.glob("*.dist-info/licenses/LICENSE"), None) is not None


def test_every_folder_with_modules_is_named_as_a_package() -> None:
    folders = {
        path.parent.relative_to(PROJECT).as_posix().replace("/", ".")
        for path in (PROJECT / "inventory_migration").rglob("__init__.py")
    }
    data_only = {"inventory_migration.expectations", "inventory_migration.mappings"}
    assert set(METADATA["tool"]["setuptools"]["packages"]) == folders | data_only


def requirements() -> Iterator[str]:
    """Yield the names of all that pyproject.toml asks for."""
    wanted = METADATA["project"]["dependencies"]
    for extra in METADATA["project"]["optional-dependencies"].values():
        wanted = [*wanted, *extra]
    for requirement in wanted:
        yield re.split(r"[\[<>=!~ ]", requirement, maxsplit=1)[0]


def canonical(name: str) -> str:
    """Return a project's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_requirement_is_pinned_and_nothing_but_versions_is_in_the_pins() -> None:
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line) for line in pins)
    pinned = {canonical(line.partition("==")[0]) for line in pins}
    assert {canonical(name) for name in requirements()} - pinned == set()


def test_every_pinned_version_runs_on_each_python_that_the_readme_names() -> None:
    named = ("3.11.0", "3.12.0", "3.13.0")
    asked = {
        f"{found.metadata['Name']} {found.version}": found.metadata["Requires-Python"]
        for found in distributions()
    }
    assert len(asked) > 100
    refused = {
        name: said
        for name, said in asked.items()
        if said and not all(version in SpecifierSet(said) for version in named)
    }
    assert refused == {}


def test_every_dependency_says_why_it_is_there() -> None:
    text = (PROJECT / "pyproject.toml").read_text()
    block = text.partition("\ndependencies = [\n")[2].partition("\n]\n")[0].splitlines()
    assert len(block) == 2 * len(METADATA["project"]["dependencies"])
    assert all(line.startswith("    # ") for line in block[::2])


def test_every_make_target_is_described_and_exists() -> None:
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    described = set(re.findall(r"^  make (\w+) ", listed, flags=re.MULTILINE))
    assert described == {
        *("help", "setup", "migrate", "test", "slow", "chaos", "impact", "bench", "watching", "ui"),
        *("figures", "startup", "dashboard", "screenshots", "docs", "reference", "lint", "clean"),
    }
