"""The page of figures says what was measured, judges it rightly, and goes on where it was."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import page
from benchmarks.figures import PARTS
from benchmarks.goals import SHAPES, Figure, figures

pytestmark = pytest.mark.one_server

PROJECT = page.PROJECT

MACHINE = {
    "system": "Linux, x86_64",
    "cores": 2,
    "memory_gb": 8,
    "python": "3.11.7",
    "postgresql": "18.6",
    "settings": {"max_wal_size": "4GB"},
}


def throughput(shape: str, rows: int, **ratios: float) -> dict[str, Any]:
    """What `throughput --json` prints where the naked statement took ten seconds."""
    phases = ("start", "audit", "gates", "plan", "chunks", "proof", "report", "rest", "imports")
    engines = {"1": 9.0, "2": 10 * ratios["engine_2"]} if "engine_2" in ratios else None
    timed = {name: 10 * ratios[name] if name in ratios else None for name in ("job", "rewrite")}
    return {
        "rows": rows,
        "shape": shape,
        "repeat": 3,
        "naked_seconds": 10.0,
        "engine_seconds": engines,
        **{f"{name}_seconds": seconds for name, seconds in timed.items()},
        "rerun_seconds": 1.5 if "rerun" in ratios else None,
        "rollback_seconds": 3.0 if "rollback" in ratios else None,
        "row_by_row_rows_per_second": 1_200.0,
        "pandas_rows_per_second": None,
        "peak_rss_mb": 350.0,
        "peak_rss_mb_by_process": {"engine 2": 70.0, "job": 350.0},
        "wal_bytes_per_row": 500.0,
        "naked_wal_bytes_per_row": 400.0,
        "ledger_bytes_per_row": 200.0,
        "phases_seconds": dict(zip(phases, range(1, 10), strict=True)),
        "rewrite_phases_seconds": {"plan": 1.0, "chunks": 2.5} if "rewrite" in ratios else {},
        "ratios": ratios,
        "spread": {"naked": [9.0, 10.0, 11.0], "engine 1": [9.0], "engine 2": [7.0, 8.0]},
        "machine": MACHINE,
        "load_before": 0.1,
    }


def size(rows: int, each: list[float], job_mb: float) -> dict[str, Any]:
    """What `scaling --json` prints of a size."""
    middle = sorted(each)[1]
    return {
        "rows": rows,
        "microseconds_per_row": each,
        "median_microseconds_per_row": middle,
        "spread": (max(each) - min(each)) / middle,
        "engine_peak_rss_mb": [70.0, 71.0, 70.5],
        "job_peak_rss_mb": [job_mb],
    }


def scaling(*, growth: float = 0.02, difference: float = 0.01, most: float = 360) -> dict[str, Any]:
    """What `scaling --json` prints."""
    return {
        "shape": "location_column",
        "workers": 2,
        "repeat": 3,
        "sizes": [
            size(100_000, [20.0, 22.0, 21.0], 350),
            size(1_000_000, [12.0, 12.5, 12.2], 352),
            size(10_000_000, [12.1, 12.6, 12.4], 354),
        ],
        "growth": [
            {"from_rows": 1_000_000, "to_rows": 10_000_000, "growth": growth, "spread": 0.04}
        ],
        "memory": {
            "engine": None,
            "job": {
                "smallest_mb": 350.0,
                "largest_mb": 350 * (1 + difference),
                "difference": difference,
                "most_mb": most,
            },
        },
        "machine": MACHINE,
        "load_before": 0.4,
    }


GOOD = {
    "throughput-location_column": throughput(
        *("location_column", 2_000_000),
        **{"engine_2": 0.7, "job": 0.95, "rewrite": 0.2, "row_by_row": 120, "rollback": 0.4},
    ),
    "throughput-stock_level": throughput(
        "stock_level", 2_000_000, engine_2=0.85, job=1.1, row_by_row=130, rollback=0.5
    ),
    "throughput-allocation_json": throughput(
        "allocation_json", 2_000_000, engine_2=0.9, job=1.2, row_by_row=101, rollback=0.99
    ),
    "whole-job": throughput("location_column", 5_000_000, job=1.0, rerun=0.02),
    "scaling": scaling(),
    "startup": {
        "help_cpu_seconds": 0.3,
        "status_cpu_seconds": 0.2,
        "pause_cpu_seconds": 0.2,
        "imports_cpu_seconds": 4.0,
        "smallest_job_cpu_seconds": 5.0,
        "records": 77,
        "measured": {
            name: [0.25, 0.35] for name in ("help", "status", "pause", "imports", "smallest_job")
        },
    },
}


def kept(folder: Path, results: dict[str, dict[str, Any]]) -> Path:
    """Keep results as `make figures` does."""
    for name, found in results.items():
        (folder / f"{name}.json").write_text(json.dumps({"command": "c", "figures": found}))
    return folder


def judged(results: dict[str, dict[str, Any]], name: str) -> Figure:
    """The one figure whose name has these words."""
    (found,) = [figure for figure in figures(results) if name in figure.name]
    return found


@pytest.mark.parametrize("path", [page.PAGE, page.README, *page.PLOTS.values()])
def test_what_is_told_is_what_was_measured(path: str) -> None:
    assert (PROJECT / path).read_text() == page.made()[path], "run `python -m benchmarks.page`"


def test_results_name_no_machine_and_no_place() -> None:
    for kept_file in page.RESULTS.glob("*.json"):
        text = kept_file.read_text()
        assert not re.search(r"[\"' =](/|~)|@|\\\\", text), kept_file.name
        assert json.loads(text)["command"].startswith("python -m benchmarks.")


def test_the_page_has_every_figure_with_its_goal() -> None:
    text = (PROJECT / page.PAGE).read_text()
    for figure in figures(page.read(page.RESULTS)):
        assert f"| {figure.name} |" in text
        assert f"| {figure.goal} | {figure.verdict} |" in text


def test_figures_on_their_goal_are_met() -> None:
    found = figures(GOOD)
    assert len(found) == 11  # ten, one of which is for two shapes
    assert [figure.name for figure in found if not figure.met] == []
    assert {figure.verdict for figure in found} == {"met"}
    assert all(figure.at for figure in found)


def test_where_nothing_was_measured_nothing_is_claimed() -> None:
    assert {figure.verdict for figure in figures({})} == {"not measured"}
    column = GOOD["throughput-location_column"]
    ratios = {**column["ratios"], "rewrite": None}
    assert judged(
        {**GOOD, "throughput-location_column": {**column, "ratios": ratios}}, "rewrite"
    ).verdict == ("not measured")


@pytest.mark.parametrize(
    ("name", "part", "worse", "missed"),
    [
        ("`location_column`", "throughput-location_column", {"engine_2": 0.9}, "0.150 (20%)"),
        ("`stock_level`", "throughput-stock_level", {"engine_2": 0.99}, "0.090 (10%)"),
        ("whole job (", "whole-job", {"job": 1.25}, "0.250 (25%)"),
        ("rewrite", "throughput-location_column", {"rewrite": 0.5}, "0.250 (100%)"),
        ("row-by-row", "throughput-stock_level", {"row_by_row": 80}, "20 (20%)"),
        ("rerun", "whole-job", {"rerun": 0.06}, "0.030 (100%)"),
        ("rollback", "throughput-allocation_json", {"rollback": 1.5}, "0.500 (50%)"),
    ],
)
def test_a_ratio_beyond_its_goal_is_missed_by_what_it_is_beyond(
    name: str, part: str, worse: dict[str, float], missed: str
) -> None:
    found = {**GOOD[part], "ratios": {**GOOD[part]["ratios"], **worse}}
    figure = judged({**GOOD, part: found}, name)
    assert (figure.met, figure.verdict) == (False, f"**missed** by {missed}")


def test_memory_growth_and_the_smallest_job_are_missed_each_by_its_own_measure() -> None:
    grown = judged({"scaling": scaling(growth=0.10)}, "growth")
    assert (grown.measured, grown.missed_by) == ("+10.0%, runs lie 4.0% apart", "6.0%")
    assert judged({"scaling": scaling(growth=-0.5)}, "growth").met
    apart = judged({"scaling": scaling(difference=-0.15)}, "peak memory")
    assert (apart.met, apart.missed_by) == (False, "5.0% of difference")
    much = judged({"scaling": scaling(most=410)}, "peak memory")
    assert (much.met, much.missed_by) == (False, "10 MB")
    small = {"startup": {**GOOD["startup"], "smallest_job_cpu_seconds": 6.0}}
    assert judged(small, "smallest whole job").missed_by == "0.200 (15%)"


def test_a_page_of_whole_results_has_them_all_and_what_a_person_wrote(tmp_path: Path) -> None:
    folder = kept(tmp_path, GOOD)
    (folder / "missed.md").write_text("Nothing is, and **why**.\n")
    text = page.made(folder)[page.PAGE]
    assert "## Where a figure is missed\n\nNothing is, and **why**." in text
    for shape in SHAPES:
        assert f"### `{shape}`, 2,000,000 records" in text
    assert "| engine, 2 workers | 7.00 | 285,714 | 0.70 | 7.00, 8.00 |" in text
    assert "| 10,000,000 | 12.40 | 12.10 to 12.60 | 4.0% | 70, 71, 70 | 354 |" in text
    assert "the pass itself 2.50 (0.25 of the naked statement)" in text
    assert "| smallest whole job, 77 records | 5.00 | 0.25, 0.35 |" in text
    assert "`max_wal_size = 4GB`" in text
    assert "11 of 11 figures that were set are met.\n" in page.made(folder)[page.README]


def test_plots_are_pictures_that_say_in_words_what_they_show(tmp_path: Path) -> None:
    files = page.made(kept(tmp_path, GOOD))
    said = {}
    for name, path in page.PLOTS.items():
        root = ElementTree.fromstring(files[path])  # noqa: S314 - made here
        texts = {element.tag.rpartition("}")[2]: element.text for element in root[:2]}
        said[name] = f"{texts['title']} {texts['desc']}"
        width, height = (float(size) for size in root.attrib["viewBox"].split()[2:])
        for element in root.iter():
            x, wide = (float(element.get(key, 0)) for key in ("x", "width"))
            if element is not root:
                assert 0 <= x <= width
                assert x + wide <= width
            assert 0 <= float(element.get("y", 0)) <= height
        assert "prefers-color-scheme: dark" in files[path]
    assert "engine, 2 workers 0.70" in said["ratios"]
    assert "chunks 5.0 s" in said["time"]
    assert "10,000,000 records: 12.10, 12.60, 12.40" in said["sizes"]


def test_results_of_different_machines_are_not_put_beside_each_other(tmp_path: Path) -> None:
    other = {**GOOD["scaling"], "machine": {**MACHINE, "cores": 64}}
    with pytest.raises(page.Unlike, match="different machines"):
        page.made(kept(tmp_path, {**GOOD, "scaling": other}))


def call(*words: str) -> subprocess.CompletedProcess[str]:
    """Call what `make figures` calls."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.figures", *words],
        cwd=PROJECT, capture_output=True, text=True, timeout=200,
    )  # fmt: skip


def test_a_try_with_fewer_records_never_becomes_the_page() -> None:
    ended = call("--divide", "10")
    assert ended.returncode == 2
    assert "--divide is for trying" in ended.stderr


@pytest.mark.slow
def test_figures_are_measured_part_by_part_and_go_on_where_they_were(tmp_path: Path) -> None:
    words = ["--results", str(tmp_path), "--divide", "2000", "--parts", "scaling"]
    more = ["--", "--repeat", "2", "--jobs", "0"]
    first = call(*words, *more)
    assert first.returncode == 0, first.stderr
    text = (tmp_path / "scaling.json").read_text()
    found = json.loads(text)
    assert found["command"] == (
        "python -m benchmarks.scaling --sizes 50 500 5000 --repeat 2 --jobs 0 --json"
    )
    assert [size["rows"] for size in found["figures"]["sizes"]] == [50, 500, 5_000]
    for size in found["figures"]["sizes"]:
        assert len(size["microseconds_per_row"]) == len(size["engine_peak_rss_mb"]) == 2
        assert size["job_peak_rss_mb"] == []
    assert [one["to_rows"] for one in found["figures"]["growth"]] == [500, 5_000]
    assert found["figures"]["memory"]["job"] is None
    assert "scaling: is there" in call(*words, *more).stderr
    assert (tmp_path / "scaling.json").read_text() == text
    assert "| 5,000 |" in page.made(tmp_path)[page.PAGE]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_part_leaves_no_server_behind(how: signal.Signals, folder: Path) -> None:
    place = folder / f"interrupted-{how}"
    place.mkdir(mode=0o711)
    words = ["--results", str(place / "results"), "--divide", "1000", "--parts", "scaling"]
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.figures", *words],
        cwd=PROJECT,
        env={**os.environ, "TMPDIR": str(place)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Whoever runs tests in the background has its children ignore a Ctrl-C.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as running:
        assert running.stderr
        assert any("round 1: the engine" in line for line in running.stderr)
        assert list(place.glob("scaling-server-*/postgres/data"))
        # A terminal's Ctrl-C goes to all of its processes, an end from outside to one.
        (os.killpg if how == signal.SIGINT else os.kill)(running.pid, how)
        _, told = running.communicate(timeout=120)
    assert running.returncode != 0, told
    assert [path.name for path in place.iterdir()] == ["results"]


def test_what_was_measured_by_another_call_does_not_count_as_there(tmp_path: Path) -> None:
    kept(tmp_path, {"scaling": GOOD["scaling"]})
    ended = call("--results", str(tmp_path), "--parts", "scaling", "--", "--repeat", "0")
    assert "scaling: python -m benchmarks.scaling --sizes 100000" in ended.stderr
    assert ended.returncode == 1
    assert "at least one round" in ended.stderr
    assert "scaling ended with 2; what is measured so far is kept" in ended.stderr
    assert page.read(tmp_path) == {"scaling": GOOD["scaling"]}


def test_the_parts_are_as_large_as_the_figures_that_were_set() -> None:
    calls = {part.name: " ".join(part.call(1, [])) for part in PARTS}
    for shape in SHAPES:
        assert calls[f"throughput-{shape}"] == f"throughput --rows 2000000 --shape {shape} --json"
    assert calls["whole-job"].startswith("throughput --rows 5000000 --skip engine")
    assert calls["scaling"] == "scaling --sizes 100000 1000000 10000000 --json"
