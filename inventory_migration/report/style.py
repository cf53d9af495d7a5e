"""How our HTML documents look: on a screen by day and night, on a telephone, on paper.

One style sheet, and the one script that a document may carry. Nothing here, and nothing that
documents are made of, is fetched from anywhere: no fonts, no pictures, no libraries. A document is
complete where the script does not run.
"""

from __future__ import annotations

import base64
import hashlib

CSS = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --raised: #f5f6f8; --ink: #1b1f24; --soft: #57606a; --line: #d3d8de;
  --link: #0a57a8; --good: #12662f; --good-bg: #e5f5ea; --bad: #a51722; --bad-bg: #fdebec;
  --warn: #7d4e00; --warn-bg: #fdf3dc; --plain-bg: #eceff2; --bar: #2f6fb0; --bar-2: #9c5a14;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --raised: #1d2127; --ink: #e4e7eb; --soft: #a3acb6; --line: #363d46;
    --link: #79b4f2; --good: #7fd69a; --good-bg: #15311f; --bad: #ff9aa0; --bad-bg: #3d1a1e;
    --warn: #f0c06a; --warn-bg: #362a12; --plain-bg: #272d35; --bar: #6aa5e0; --bar-2: #d99a55;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 1rem; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", "Liberation Sans", sans-serif;
  overflow-wrap: anywhere;
}
a { color: var(--link); }
.sheet { max-width: 1180px; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 {
  font-size: 1.2rem; margin: 2.25rem 0 .6rem; padding-top: .7rem; border-top: 1px solid var(--line);
}
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p, ul, dl, figure, .scroll, pre, details { margin: .6rem 0; }
p, li { max-width: 78ch; }
ul { padding-left: 1.25rem; }
.soft, figcaption, caption { color: var(--soft); font-size: .87rem; }
nav.contents {
  margin: 1.25rem 0; padding: .6rem 1rem; background: var(--raised); border-radius: 6px;
}
nav.contents ul {
  list-style: none; margin: .2rem 0; padding: 0; columns: 15rem; column-gap: 2rem;
  font-size: .92rem;
}
nav.contents strong { font-size: .92rem; }
.verdict { margin: 1rem 0; padding: .8rem 1rem; border-radius: 6px; border-left: 6px solid; }
.verdict p { margin: .3rem 0 0; color: var(--ink); }
.verdict strong { font-size: 1.1rem; }
.badge {
  display: inline-block; padding: 0 .5em; border-radius: 4px; font-size: .87em; font-weight: 600;
  white-space: nowrap;
}
.good { color: var(--good); background: var(--good-bg); }
.bad { color: var(--bad); background: var(--bad-bg); }
.warn { color: var(--warn); background: var(--warn-bg); }
.plain { color: var(--ink); background: var(--plain-bg); }
.tiles { display: flex; flex-wrap: wrap; gap: .6rem; margin: .8rem 0; }
.tile { flex: 1 1 8.5rem; padding: .6rem .8rem; background: var(--raised); border-radius: 6px; }
.tile b { display: block; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
.tile span { display: block; color: var(--soft); font-size: .85rem; }
dl.pairs { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .2rem 1.2rem; }
dl.pairs dt { color: var(--soft); }
dl.pairs dd { margin: 0; }
.scroll { width: fit-content; max-width: 100%; overflow-x: auto; }
.scroll { border: 1px solid var(--line); border-radius: 6px; }
.scroll:focus-visible, summary:focus-visible, a:focus-visible { outline: 2px solid var(--link); }
table { border-collapse: collapse; font-size: .88rem; line-height: 1.4; }
caption { text-align: left; padding: .45rem .6rem; }
th, td {
  padding: .3rem .6rem; text-align: left; vertical-align: top; border-top: 1px solid var(--line);
}
td, th { overflow-wrap: break-word; }
thead th {
  background: var(--raised); font-weight: 600; border-top: 0; vertical-align: bottom;
}
caption ~ thead th { border-top: 1px solid var(--line); }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
td.n { white-space: nowrap; }
#by-company td:first-child { min-width: 12rem; }
.wide table { font-size: .82rem; } .wide th, .wide td { padding: .3rem .45rem; }
td.p { min-width: 16rem; }
td.box { min-width: 5rem; }
tbody tr:hover { background: var(--raised); }
tr.bad, tr.warn { color: inherit; }
tr.total { font-weight: 600; background: var(--raised); }
pre {
  overflow-x: auto; padding: .7rem .9rem; background: var(--raised); border-radius: 6px;
  font-size: .82rem; line-height: 1.45; white-space: pre-wrap;
}
code, pre, .mono {
  font-family: ui-monospace, "Cascadia Mono", Menlo, "Liberation Mono", monospace;
}
code { font-size: .9em; }
summary { cursor: pointer; color: var(--link); }
.search { display: flex; gap: .6rem; align-items: baseline; flex-wrap: wrap; margin: .6rem 0; }
.search input {
  font: inherit; padding: .25rem .5rem; width: 16rem; max-width: 100%; color: var(--ink);
  background: var(--paper); border: 1px solid var(--soft); border-radius: 4px;
}
figure svg { display: block; width: 100%; height: auto; max-width: 560px; }
figure { break-inside: avoid; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); }
.plots { gap: 1rem 2rem; }
svg text { fill: var(--ink); font: 12px system-ui, "Liberation Sans", sans-serif; }
svg .dim { fill: var(--soft); }
svg .axis { stroke: var(--line); fill: none; }
svg .a { fill: var(--bar); } svg .b { fill: var(--bar-2); }
svg .line { stroke: var(--bar); stroke-width: 1.5; fill: none; }
svg .edge { stroke: var(--paper); stroke-width: 1; }
.signatures {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: 1.5rem 2rem;
}
.signature { break-inside: avoid; }
.signature .rule { border-bottom: 1px solid var(--ink); height: 2.6rem; }
.signature .rule + span { color: var(--soft); font-size: .82rem; }
footer { margin-top: 2.5rem; padding-top: .7rem; border-top: 1px solid var(--line); }
@media (max-width: 640px) {
  .sheet { padding: 1rem .9rem; }
  h1 { font-size: 1.3rem; }
  dl.pairs { grid-template-columns: 1fr; gap: 0; }
  dl.pairs dd { margin-bottom: .45rem; }
  #by-company td:first-child { min-width: 7rem; }
  .scroll.cards { width: auto; }
  .cards thead {
    position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden;
  }
  .cards table, .cards tbody, .cards tr, .cards td, .cards th, .cards caption { display: block; }
  .cards tr { border-top: 1px solid var(--line); padding: .4rem 0; }
  .cards td, .cards th {
    border: 0; padding: .1rem .7rem .1rem 8.2rem; text-align: left; white-space: normal;
    min-height: 1.5em; position: relative; overflow-wrap: anywhere;
  }
  .cards [data-label]::before {
    content: attr(data-label); position: absolute; left: .7rem; width: 7rem; color: var(--soft);
    font-weight: 400;
  }
}
@media screen {
  .scroll.tall { max-height: 34rem; overflow: auto; }
  .scroll.tall thead th { position: sticky; top: 0; z-index: 1; }
  .print-only { display: none; }
}
@media print {
  @page { size: A4; margin: 17mm 14mm 16mm; }
  @page wide { size: A4 landscape; }
  :root {
    color-scheme: light;
    --paper: #fff; --raised: #f1f2f4; --ink: #000; --soft: #444; --line: #999; --link: #000;
    --good: #0b4f22; --good-bg: #fff; --bad: #8c0e18; --bad-bg: #fff; --warn: #5f3b00;
    --warn-bg: #fff; --plain-bg: #fff; --bar: #2f6fb0; --bar-2: #9c5a14;
  }
  body { font-size: 9.5pt; }
  .sheet { max-width: none; padding: 0; }
  a { text-decoration: none; }
  .no-print, .search { display: none !important; }
  h1, h2, h3, caption { break-after: avoid; }
  h2 { margin-top: 1.4rem; }
  tr, li, dt, dd, figure, .verdict, .tile, .signature { break-inside: avoid; }
  thead { display: table-header-group; }
  table { font-size: 8pt; }
  th, td { padding: .14rem .35rem; }
  td.p { min-width: 10rem; }
  #by-company td:first-child { min-width: 11rem; }
  .wide .scroll, .wide table { width: 100%; }
  .wide table { font-size: 7pt; line-height: 1.25; }
  .wide th, .wide td { padding: .08rem .3rem; }
  .scroll { overflow: visible; border: 0; border-radius: 0; }
  .badge, .verdict { border: 1px solid currentColor; }
  .verdict { border-left-width: 6px; }
  .badge { padding: 0 .3em; }
  .tile { border: 1px solid var(--line); background: none; }
  pre { border: 1px solid var(--line); font-size: 7.5pt; }
  details pre { columns: 2; font-size: 6.5pt; }
  nav.contents { border: 1px solid var(--line); background: none; }
  section.wide { page: wide; }
  section.apart { break-before: page; }
  details::details-content { content-visibility: visible; height: auto; }
  td.box { border: 1px solid var(--ink); height: 1.7em; }
}
"""

SEARCH = """
for (const box of document.querySelectorAll(".search")) {
  const rows = [...document.getElementById(box.dataset.table).tBodies[0].rows];
  const texts = rows.map(row => row.textContent.toLowerCase());
  const input = box.querySelector("input"), said = box.querySelector("output");
  box.hidden = false;
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    let found = 0;
    rows.forEach((row, n) => { row.hidden = !texts[n].includes(wanted); found += !row.hidden; });
    said.textContent = wanted ? `${found} of ${rows.length} rows` : "";
  });
}
addEventListener("beforeprint", () => {
  for (const closed of document.querySelectorAll("details:not([open])")) closed.open = true;
  for (const row of document.querySelectorAll("tr[hidden]")) row.hidden = false;
});
"""
"""Looks for rows of a long table while somebody types, and prints everything whatever is shown."""


def policy(script: str | None) -> str:
    """What a browser may do with the document: its own style and script, and fetch nothing."""
    allowed = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    if script is None:
        return allowed
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"{allowed}; script-src 'sha256-{digest}'"


def on_paper(running: str) -> str:
    """Rules that repeat a document's name and the page's number on each sheet of paper."""
    spelled = "".join(c if c.isascii() and c.isalnum() else f"\\{ord(c):x} " for c in running)
    return (
        "@media print { @page { "
        f'@top-left {{ content: "{spelled}"; font: 8pt sans-serif; color: #444 }} '
        '@bottom-right { content: "Page " counter(page) " of " counter(pages); '
        "font: 8pt sans-serif; color: #444 } } }\n"
    )
