"""The documentation as a site: whole, strict, and readable without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from docs import reference
from inventory_migration.engine.ledger import tables
from inventory_migration.mapping.parts import Part

pytestmark = pytest.mark.one_server

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does: a link that leads nowhere is an error."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": ".", "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


_LOADED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//"""
    r"""|<link\b[^>]*\brel=["']?(?:stylesheet|preconnect|icon)[^>]*\bhref=["']?(?:https?:)?//"""
    r"""|(?:url\(|@import )["']?(?:https?:)?//"""
)


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://elsewhere.example/a.js">',
        '<link rel="stylesheet" href="//elsewhere.example/a.css">',
        "@import 'https://elsewhere.example/a.css'",
        "src: url(https://elsewhere.example/a.woff)",
    ],
)
def test_what_is_loaded_from_elsewhere_would_be_seen(text: str) -> None:
    assert _LOADED.search(text)


def test_the_site_has_every_page_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = {page.relative_to(site).as_posix() for page in site.rglob("*.html")}
    sources = {
        page.relative_to(PROJECT / "docs").with_suffix(".html").as_posix()
        for page in (PROJECT / "docs").rglob("*.md")
    }
    assert {"index.html", "guide.html", "security.html", *sources} <= pages
    for file in (*site.rglob("*.html"), *site.rglob("*.css")):
        assert _LOADED.findall(file.read_text()) == [], file.name


def _parts(part: type[Part] = Part) -> list[type[Part]]:
    return [inner for one in part.__subclasses__() for inner in (one, *_parts(one))]


@pytest.mark.parametrize("part", _parts(), ids=lambda part: part.__name__)
def test_every_key_of_a_mapping_says_what_it_means(part: type[Part]) -> None:
    assert part.model_fields.keys() <= reference.attributes(part).keys()


@pytest.mark.parametrize("table", tables.metadata.tables.values(), ids=lambda table: table.name)
def test_every_table_of_the_ledger_says_what_it_holds(table: sa.Table) -> None:
    assert table.comment


@pytest.mark.parametrize("name", reference.pages())
def test_the_pages_of_reference_are_what_the_code_says(name: str) -> None:
    kept = (reference.FOLDER / name).read_text()
    assert kept == reference.pages()[name], "run `make reference`"
