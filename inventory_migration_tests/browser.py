"""A document as a real browser lays it out: at a width, with its script running, and printed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

_CALM = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--no-pdf-header-footer", "--virtual-time-budget=20000"),
]

_MEASURE = """
const told = [];
for (const frame of document.querySelectorAll("iframe")) {
  const shown = frame.contentDocument, root = shown.documentElement;
  const wide = [...shown.querySelectorAll("body *")].filter(e => {
    const box = e.getBoundingClientRect();
    return box.width && box.right > root.clientWidth + 1 && !e.closest(".scroll");
  });
  const search = shown.querySelector(".search:not([hidden]) input");
  let found = null;
  if (search) {
    search.value = "WANTED"; search.dispatchEvent(new Event("input"));
    const table = shown.getElementById(search.closest(".search").dataset.table);
    found = [...table.tBodies[0].rows].filter(row => !row.hidden).length;
  }
  told.push({
    width: root.clientWidth, content: root.scrollWidth,
    wide: wide.map(e => e.outerHTML.slice(0, 90)),
    small: Math.min(...[...shown.querySelectorAll("p, td")].map(
      e => parseFloat(frame.contentWindow.getComputedStyle(e).fontSize))), found,
  });
}
document.body.innerHTML = "<pre id=told></pre>";
document.getElementById("told").textContent = JSON.stringify(told);
"""


def laid_out(source: str, widths: list[int], folder: Path, *, wanted: str) -> list[dict[str, Any]]:
    """Return what a document is like at each width: what sticks out, what its search finds."""
    frames = "".join(f'<iframe width="{width}" height="800"></iframe>' for width in widths)
    # Not a string in the script itself, which would end at the document's own </script>.
    encoded = json.dumps(source).replace("<", "\\u003c")
    page = (
        f"<!DOCTYPE html><body>{frames}<script>\n"
        f"const source = {encoded}; let left = {len(widths)};\n"
        f"function measure() {{ {_MEASURE.replace('WANTED', wanted)} }}\n"
        'for (const frame of document.querySelectorAll("iframe")) {\n'
        "  frame.onload = () => { left -= 1; if (!left) measure(); };\n"
        "  frame.srcdoc = source;\n}\n</script>"
    )
    path = folder / "widths.html"
    path.write_text(page)
    shown = run(folder, "--dump-dom", path.as_uri())
    told = re.search(r'<pre id="told">(.*?)</pre>', shown, flags=re.S)
    assert told is not None, shown[-2000:]
    found: list[dict[str, Any]] = json.loads(unescape(told[1]))
    return found


def printed(source: str, folder: Path) -> bytes:
    """Return a document as a browser prints it into a PDF."""
    (folder / "printed.html").write_text(source)
    run(folder, f"--print-to-pdf={folder / 'printed.pdf'}", (folder / "printed.html").as_uri())
    return (folder / "printed.pdf").read_bytes()


def run(folder: Path, *arguments: str) -> str:
    """Run the browser, with a profile of its own; returns what it says."""
    if PROGRAM is None:
        pytest.skip("no browser here; install chromium (apt-get install chromium)")
    ended = subprocess.run(
        [PROGRAM, *_CALM, f"--user-data-dir={folder / 'profile'}", *arguments],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout
