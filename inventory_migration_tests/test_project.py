"""Where files are looked for, where state goes, and how environment files are read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inventory_migration import project
from inventory_migration.errors import EnvFileInvalid, ProjectFileMissing, ProjectFolderMissing

pytestmark = pytest.mark.one_server

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pretend that the package was installed from a wheel, and work in an empty folder."""
    package = tmp_path / "site-packages" / "inventory_migration"
    for kind, name in [("mappings", "shipped.yaml"), ("expectations", "gate.json")]:
        (package / kind).mkdir(parents=True)
        (package / kind / name).write_text("package")
    working = tmp_path / "work"
    working.mkdir()
    monkeypatch.setattr(project, "_PACKAGE", package)
    monkeypatch.chdir(working)
    return working


def test_the_project_is_the_checkout_that_holds_the_package() -> None:
    assert project.project_folder() == CHECKOUT


def test_without_a_checkout_the_project_is_the_working_folder(elsewhere: Path) -> None:
    assert project.project_folder() == elsewhere


def test_state_goes_where_the_environment_says_or_into_the_project(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVENTORY_HOME", str(elsewhere / "a" / "b"))
    assert project.state_folder() == elsewhere / "a" / "b"
    monkeypatch.delenv("INVENTORY_HOME")
    assert project.state_folder() == elsewhere / ".inventory"
    assert (elsewhere / ".inventory" / ".gitignore").read_text() == "*\n"


def test_a_state_folder_that_can_not_be_made_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INVENTORY_HOME", str(tmp_path / "file" / "state"))
    with pytest.raises(
        ProjectFolderMissing, match="set INVENTORY_HOME to another folder"
    ) as caught:
        project.state_folder()
    assert caught.value.exit_code == 2


def test_dagster_keeps_its_history_in_the_state_folder_and_sends_nothing(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVENTORY_HOME", str(elsewhere / "state"))
    home = project.dagster_home()
    assert home == elsewhere / "state" / "dagster"
    assert (home / "dagster.yaml").read_text().count("enabled: false") == 2
    (home / "dagster.yaml").write_text("mine: true\n")
    assert (project.dagster_home() / "dagster.yaml").read_text() == "mine: true\n"


def test_dagsters_own_variable_wins_and_its_folder_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    assert project.dagster_home() == tmp_path / "home"
    assert list((tmp_path / "home").iterdir()) == []


def test_files_are_looked_for_in_the_environment_then_the_project_then_the_package(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert project.find("mappings", "shipped.yaml").read_text() == "package"
    (elsewhere / "mappings").mkdir()
    (elsewhere / "mappings" / "shipped.yaml").write_text("project")
    assert project.find("mappings", "shipped.yaml").read_text() == "project"
    own = elsewhere / "own"
    own.mkdir()
    monkeypatch.setenv("INVENTORY_MAPPINGS", str(own))
    assert project.find("mappings", "shipped.yaml").read_text() == "project"
    (own / "shipped.yaml").write_text("environment")
    assert project.find("mappings", "shipped.yaml").read_text() == "environment"
    assert project.find("expectations", "gate.json").read_text() == "package"


def test_a_listing_has_every_name_once_from_the_first_place_that_has_it(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = elsewhere / "own"
    own.mkdir()
    (own / "shipped.yaml").write_text("environment")
    (own / "zebra.yaml").write_text("environment")
    (own / "readme.txt").write_text("no mapping")
    monkeypatch.setenv("INVENTORY_MAPPINGS", str(own))
    assert project.listing("mappings", ".yaml") == {
        "shipped": own / "shipped.yaml",
        "zebra": own / "zebra.yaml",
    }


@pytest.mark.usefixtures("elsewhere")
def test_a_missing_file_is_named_with_what_there_is_instead() -> None:
    with pytest.raises(ProjectFileMissing, match=r"there is shipped\.yaml") as caught:
        project.find("mappings", "shiped.yaml")
    assert caught.value.exit_code == 2
    assert "INVENTORY_MAPPINGS" in str(caught.value)


def test_a_misspelt_folder_in_the_environment_is_refused_and_not_passed_over(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVENTORY_EXPECTATIONS", str(elsewhere / "expectation"))
    with pytest.raises(ProjectFolderMissing, match="INVENTORY_EXPECTATIONS"):
        project.find("expectations", "gate.json")


def test_an_environment_file_is_read_as_other_tools_write_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".env"
    path.write_text(
        "# the shop\n"
        "\n"
        "PLAIN=postgresql://ann:p#w$x@db/shop   # a comment\n"
        "export EXPORTED = spaced out \n"
        "SINGLE='a # b'\n"
        'DOUBLE="it\'s = fine" # yes\n'
        "EMPTY=\n"
        "KNOWN=file\n",
        encoding="utf-8-sig",
    )
    for name in ("PLAIN", "EXPORTED", "SINGLE", "DOUBLE", "EMPTY"):
        # Set and deleted, so that it is taken back after the test whatever the file does to it.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("KNOWN", "environment")
    added = project.load_env_file(path)
    assert added == {
        "PLAIN": "postgresql://ann:p#w$x@db/shop",
        "EXPORTED": "spaced out",
        "SINGLE": "a # b",
        "DOUBLE": "it's = fine",
        "EMPTY": "",
    }
    assert os.environ["PLAIN"] == "postgresql://ann:p#w$x@db/shop"
    assert os.environ["KNOWN"] == "environment"


@pytest.mark.parametrize(
    ("line", "reason"),
    [("s3cr3t", "expected KEY=VALUE"), ("9X=s3cr3t", "expected KEY=VALUE"),
     ("A='s3cr3t", "the quote is never closed")],
)  # fmt: skip
def test_a_bad_line_is_named_by_file_and_number_and_not_repeated(
    tmp_path: Path, line: str, reason: str
) -> None:
    path = tmp_path / ".env"
    path.write_text(f"\nSTRAY_VARIABLE=1\n{line}\n")
    with pytest.raises(EnvFileInvalid, match=f"{path}, line 3: {reason}") as caught:
        project.load_env_file(path)
    assert "s3cr3t" not in str(caught.value)
    assert "STRAY_VARIABLE" not in os.environ


def test_an_environment_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(EnvFileInvalid, match="no such file"):
        project.load_env_file(tmp_path / "none")


def test_links_are_below_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        project.dashboard_url(7) is project.dagster_run_url("r") is project.report_url("a") is None
    )
    monkeypatch.setenv("INVENTORY_DASHBOARD_URL", "https://stock.example/board/")
    monkeypatch.setenv("INVENTORY_DAGSTER_URL", "http://127.0.0.1:3000")
    monkeypatch.setenv("INVENTORY_REPORT_URL", "https://files.example/reports")
    assert project.dashboard_url() == "https://stock.example/board/"
    assert project.dashboard_url(7) == "https://stock.example/board/migrations/7"
    assert project.dagster_run_url("a/b?") == "http://127.0.0.1:3000/runs/a%2Fb%3F"
    assert project.report_url("a b-1.html") == "https://files.example/reports/a%20b-1.html"


def test_a_link_shows_no_secret_of_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "https://ann:s3cr3t@stock.example:8642/x?token=s3cr3t#s3cr3t"
    monkeypatch.setenv("INVENTORY_DASHBOARD_URL", secret)
    assert project.dashboard_url(7) == "https://stock.example:8642/x/migrations/7"


@pytest.mark.parametrize("given", ["s3cr3t", "javascript:alert(1)", "http://[s3cr3t", "https:///x"])
def test_an_address_that_cannot_be_linked_is_told_once_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, given: str
) -> None:
    monkeypatch.setenv("INVENTORY_DASHBOARD_URL", given)
    assert [project.dashboard_url(number) for number in (1, 2)] == [None, None]
    (said,) = caplog.messages
    assert said.startswith("INVENTORY_DASHBOARD_URL is no address")
    assert "s3cr3t" not in said
