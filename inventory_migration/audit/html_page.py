"""An audit as one HTML file: what was found first, then what there is, then what hangs on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from inventory_migration.audit.audit import Audit
from inventory_migration.audit.columns import TableProfile
from inventory_migration.audit.findings import SHOWN, Finding
from inventory_migration.audit.svg import svg
from inventory_migration.report import html
from inventory_migration.report.html import Part, Section, Tone, Toned

_TONES: Mapping[str, Tone] = {"critical": "bad", "warning": "warn", "info": "plain"}
_CONCERNS: Mapping[str, Tone] = {"to do": "warn", "to know": "plain", "untouched": "good"}
_NUMBERS = {
    "nulls", "distinct", "records", "units", "reserved", "available", "rows", "orphans", "groups",
    "default locations", "quantity missing", "negative quantity", "reserved exceeds quantity",
    "fractional", "spaces at the ends", "value",
}  # fmt: skip
_PROSE = {
    "what the migration does to it", "what the migration does", "what to do", "expected", "value",
    "values", "shapes", "spellings of the same", "definition", "what", "finding",
}  # fmt: skip


def page(found: Audit) -> str:
    """The whole document."""
    tone: Tone = "bad" if not found.passed else "warn" if found.counts["warning"] else "good"
    return html.page(
        f"Audit of {found.mapping}",
        [
            _findings(found),
            _inventory(found),
            _companies(found),
            _references(found),
            _columns(found),
            _structure(found),
            _fields(found),
            _dependencies(found),
        ],
        lead=[html.verdict(found.conclusion, tone), _tiles(found), html.pairs(found.about())],
        running=f"Audit of {found.mapping}, {found.as_of[:10]}",
        end=[
            html.paragraph(
                "Made by inventory-migration from one moment of the database, in a transaction "
                "that cannot write. Values of columns that hold secrets or tell of a person are "
                "not shown.",
                soft=True,
            )
        ],
    )


def _tiles(found: Audit) -> Markup:
    totals = found.profile.totals
    missing = totals["companies_without_default_location"]
    over = totals["reserved_exceeds_quantity"]
    return html.tiles(
        [
            ("Companies", totals["companies"], f"{missing:,} without a default location"),
            ("Stock records", totals["records"], f"{totals['with_location']:,} at a location"),
            ("Units", totals["units"], f"{totals['quantity_missing']:,} records without a number"),
            (
                "Reserved",
                totals["reserved"],
                f"{over:,} records over what they hold",
            ),
            ("Available", totals["available"], "units less what is reserved"),
        ]
    )


def _findings(found: Audit) -> Section:
    if not found.findings:
        none = f"None: all {found.expectations} expectations are met."
        return html.section("Findings", html.paragraph(none))
    overview = [
        {
            "severity": Toned(finding.severity, _TONES[finding.severity]),
            "finding": Markup('<a href="#finding-{}">{}</a>').format(
                number, html.text(finding.expected)
            ),
            "observed": finding.error or finding.observed,
            "rows": finding.count,
        }
        for number, finding in enumerate(found.findings)
    ]
    return html.section(
        "Findings",
        html.paragraph(
            "Each is an expectation of the first gate that is not met, by consequence.", soft=True
        ),
        html.table(
            overview, prose={"finding"}, numbers={"rows"}, caption="All findings",
            cards=True,
        ),
        *(part for number, one in enumerate(found.findings) for part in _finding(number, one)),
    )  # fmt: skip


def _finding(number: int, finding: Finding) -> Iterator[Part]:
    title = Markup('<h3 id="finding-{}">{} {}</h3>').format(
        number, html.badge(finding.severity, _TONES[finding.severity]), html.text(finding.key)
    )
    yield title
    told = {
        "Expected": finding.expected,
        "Could not be looked at": finding.error,
        "Observed": finding.observed,
        "Why it matters": finding.why,
        "What the tool will do": finding.effect,
        "What to do": finding.advice,
    }
    yield html.pairs({name: text for name, text in told.items() if text})
    yield _examples(finding)
    if finding.sql:
        sql = html.details("SQL that shows them", html.code(finding.sql))
        # A statement is to be copied, and fills a sheet of paper.
        yield Markup('<div class="no-print">{}</div>').format(sql)


def _examples(finding: Finding) -> Part:
    keys = finding.sample[:SHOWN]
    if not keys:
        return None
    if not finding.details:
        return html.pairs({"For example": ", ".join(keys)})
    rows = [
        {"key": key, "what is known of it": detail}
        for key, detail in zip(keys, finding.details, strict=False)
    ]
    return html.details(f"For example ({len(rows)})", html.table(rows))


def _inventory(found: Audit) -> Section:
    sections = found.profile.sections()
    return html.section(
        "What there is",
        _table(found.profile.figures(), "Totals"),
        _table(sections["Predicted outcomes"], "What a run would do with the records"),
        _table(sections["Duplicates"], "Duplicates"),
    )


def _companies(found: Audit) -> Section:
    left_out = found.profile.companies_left_out
    more = f"{left_out:,} companies more are not listed." if left_out else None
    rows = found.profile.sections()["Companies with most records"]
    return html.section(
        "Companies",
        html.table(
            rows, numbers=_NUMBERS, caption="Companies with most records", key="company-list",
            empty="There is no stock record of any company.",
        ),
        html.paragraph(more) if more else None,
        wide=True,
    )  # fmt: skip


def _references(found: Audit) -> Section:
    return html.section(
        "References",
        html.paragraph(
            "Rows that hold the key of another table's row, and how many of those keys lead to "
            "nothing: by foreign keys, and by columns that only a name tells of.",
            soft=True,
        ),
        _table(found.profile.sections()["References"], "References", cards=True),
        wide=True,
    )


def _columns(found: Audit) -> Section:
    shapes = "In shapes A is a capital, a a small letter, 9 a digit, x another letter, + a run."
    return html.section(
        "Columns",
        html.paragraph(
            "Outliers lie more than three interquartile ranges beyond the quartiles.", shapes,
            soft=True,
        ),
        *(part for one in found.profile.tables for part in _of_table(one)),
        wide=True,
    )  # fmt: skip


def _of_table(one: TableProfile) -> Iterator[Part]:
    yield html.subheading(f"{one.table}: {', '.join(one.roles)}")
    yield html.paragraph(one.basis, soft=True)
    for title, rows in one.sections().items():
        yield _table(rows, f"{title} of {one.table}")


def _structure(found: Audit) -> Section:
    sections = found.dependencies.sections()
    return html.section(
        "Structure before and after",
        html.figure(Markup(svg(found.dependencies.before)), "Before"),  # noqa: S704 - escapes
        html.figure(Markup(svg(found.dependencies.after)), "After"),  # noqa: S704 - escapes
        _table(sections["Tables"], "Tables of the mapping", cards=True),
        wide=True,
    )


def _fields(found: Audit) -> Section:
    rows = found.dependencies.sections()["Fields"]
    return html.section(
        "Fields, from one location to many",
        html.table(rows, prose={"value", "is"}, caption="Fields", cards=True),
        wide=True,
    )


def _dependencies(found: Audit) -> Section:
    sections = found.dependencies.sections()
    children = _toned(sections["Child tables"])
    return html.section(
        "Child tables and dependencies",
        html.table(
            children, prose=_PROSE, caption="Tables that may need a location too", cards=True,
            empty="No table was found whose rows belong to a stock record.",
        ),
        html.table(
            _toned(sections["Dependencies"]), prose=_PROSE, cards=True, key="dependency-list",
            caption="What hangs on the tables, and what the migration does to it",
        ),
        html.subheading("Not looked into"),
        html.bullets(row["what"] for row in sections["Not looked into"]),
        wide=True,
    )  # fmt: skip


def _toned(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    return [
        {
            name: Toned(value, _CONCERNS[value]) if name == "concern" else value
            for name, value in row.items()
        }
        for row in rows
    ]


def _table(rows: Sequence[Mapping[str, Any]], caption: str, *, cards: bool = False) -> Markup:
    return html.table(rows, numbers=_NUMBERS, prose=_PROSE - _NUMBERS, caption=caption, cards=cards)
