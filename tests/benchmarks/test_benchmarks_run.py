"""Every benchmark runs at tiny sizes, and the page on performance says what the files of results say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import tables

ROOT = Path(__file__).parents[2]
BENCHMARKS = ["discretized", "hidden_tree", "hmm", "layered", "mixture", "scalar", "scaling", "small", "tucker"]


def test_every_benchmark_is_known():
    scripts = {path.stem for path in Path(__file__).parent.glob("*.py") if "def main()" in path.read_text()}
    assert scripts - {"cirkit_peer", "tables", Path(__file__).stem} == set(BENCHMARKS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmark_runs_and_writes_its_tables(name: str, tmp_path: Path) -> None:
    out = tmp_path / "results" / f"{name}.json"
    done = subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.{name}", "--smoke", "--threads", "1", "--out", str(out)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert str(tmp_path) not in out.read_text()
    assert result["command"] == f"python -m tests.benchmarks.{name} --smoke --threads 1"
    assert all(len(row) == len(table["columns"]) for table in result["tables"] for row in table["rows"])
    page = tables.filled(f"<!-- results: {name} -->\n<!-- end of results -->\n", out.parent)
    for table in result["tables"]:
        assert table["title"] in done.stdout
        assert table["title"] in page


def test_page_says_what_the_results_say():
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.filled(page, tables.RESULTS) == page, "run python -m tests.benchmarks.tables"
    assert {name for _, name, _ in tables.MARKED.findall(page)} >= {path.stem for path in tables.RESULTS.glob("*.json")}


def test_a_table_without_results_says_how_to_make_them(tmp_path: Path) -> None:
    page = tables.filled("<!-- results: mixture-cuda -->\n<!-- end of results -->\n", tmp_path)
    assert "no GPU" in page
    assert "python -m tests.benchmarks.mixture --device cuda --out docs/results/mixture-cuda.json" in page
