"""The parts that documents are built of: whatever is put into them, nothing becomes markup."""

from __future__ import annotations

import base64
import hashlib
import re
from html import unescape

import pytest
from markupsafe import Markup

from inventory_migration.report import html
from inventory_migration.report.text import duration, grouped, printable, when
from inventory_migration_tests.documents import Document

pytestmark = pytest.mark.one_server

HOSTILE = "</td></script><script>alert(1)</script>\" onload='x' {0} %s \x1b[31m\u202e\nnext"


def everything(value: str) -> str:
    """Return a document that has the value wherever one can be."""
    rows = [{"name": value, value: value, "state": html.Toned(value, "bad")}] * 50
    return html.page(
        value,
        [
            html.section(
                value,
                value,
                html.subheading(value),
                html.paragraph(value, html.word(value), html.strong(value)),
                html.bullets([value]),
                html.pairs({value: value}),
                html.tiles([(value, value, value)]),
                html.figure(Markup("<svg></svg>"), value),
                key="all",
            ),
            html.section(
                "Tables",
                html.table(rows, prose={value}, caption=value, key="rows", cards=True),
                html.table([], empty=value),
                html.details(value, html.code(value), value),
                html.signatures([value]),
                wide=True,
            ),
        ],
        lead=[html.verdict(value, "warn", value), html.badge(value)],
        end=[value],
    )


def test_no_text_becomes_markup_wherever_it_is_put() -> None:
    plain, hostile = Document(everything("plain")), Document(everything(HOSTILE))
    assert hostile.tags == plain.tags
    assert hostile.ids == plain.ids
    assert hostile.text.count("alert(1)") == plain.text.count("plain")
    assert "\x1b" not in hostile.text
    assert "\u202e" not in hostile.text


def test_a_document_fetches_nothing_and_lets_only_its_own_script_run() -> None:
    source = everything(HOSTILE)
    found = Document(source)
    assert found.fetched == []
    assert all(link.startswith("#") and link[1:] in found.ids for link in found.links)
    assert len(set(found.ids)) == len(found.ids)
    policy = re.search(r'Security-Policy" content="([^"]+)"', source)
    scripts = re.findall(r"<script>(.*?)</script>", source, flags=re.S)
    assert policy is not None
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    said = unescape(policy[1])
    assert "default-src 'none'" in said
    assert f"script-src 'sha256-{digest}'" in said
    assert "script" not in html.page("short", [html.section("One", "text")])


def test_a_table_has_every_value_under_its_name() -> None:
    rows = [{"item": "a", "units": "12345678901234567890.250", "held": None}, {"item": "b"}]
    source = html.table(rows, numbers={"units"})
    assert Document(source).tables == [
        [["item", "units", "held"], ["a", "12,345,678,901,234,567,890.250", ""], ["b", "", ""]]
    ]
    assert source.count('class="n"') == 3
    assert "search" not in source
    long = html.table([{"n": n} for n in range(html.TALL + 1)], key="all")
    assert 'data-table="all" hidden' in long, "without the script there is nothing to search with"
    assert len(Document(long).tables[0]) == html.TALL + 2
    assert html.table([]) == "<p>None.</p>"
    cut = Document(html.table([{"a": "x" * 1000}])).tables[0][1][0]
    assert (len(cut), cut[-1]) == (html.LONGEST, "…")


def test_colour_is_never_the_only_sign() -> None:
    tones: list[html.Tone] = ["good", "bad", "warn", "plain"]
    assert len({Document(html.badge("same", tone)).text for tone in tones}) == len(tones)


def test_code_keeps_its_lines() -> None:
    source = html.code("SELECT *\n\tFROM a < b\x00\n")
    assert Document(source).text == "SELECT *\n    FROM a < b\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (grouped(None), ""),
        (grouped(True), "True"),
        (grouped(1234567), "1,234,567"),
        (grouped("-1234.50"), "-1,234.50"),
        (grouped("1E+4"), "10,000"),
        (grouped("NaN"), "NaN"),
        (grouped("4 of 5"), "4 of 5"),
        (duration(None), ""),
        (duration(0.0123), "12 ms"),
        (duration(61.26), "61.3 s"),
        (duration(125), "2 min 5 s"),
        (duration(7325), "2 h 2 min"),
        (when("2026-11-23T17:38:59.123456+00:00"), "2026-11-23 17:38:59+00:00"),
        (when(None), ""),
        (printable("क्\u200dष"), "क्\u200dष"),
        (printable("a\n b"), "a b"),
    ],
)
def test_values_read_as_people_write_them(shown: str, expected: str) -> None:
    assert shown == expected
