"""Write the tables of docs/performance.md from the files in docs/results; no number in the page is typed by hand.

python -m tests.benchmarks.tables            # rewrites what stands between the page's markers
python -m tests.benchmarks.tables --check    # fails where the page is not what the files say
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import ROOT, shown

PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "docs" / "results"
MARKED = re.compile(r"(<!-- results: ([\w-]+) -->\n).*?(<!-- end of results -->)", re.DOTALL)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table; numbers are aligned to the right."""
    right = [i > 0 and all(not isinstance(row[i], str) for row in rows) for i in range(len(columns))]
    lines = [columns, ["---:" if r else "---" for r in right], *([shown(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def section(result: Mapping[str, Any]) -> str:
    """The tables of one file, with the command and the hardware that made them."""
    hardware = ", ".join(f"{name} {value}" for name, value in result["hardware"].items() if value is not None)
    without = "" if result["hardware"].get("GPU") else "; no GPU was used"
    tables = [f"**{table['title']}**\n\n{markdown(table['columns'], table['rows'])}" for table in result["tables"]]
    return "\n\n".join([f"`{result['command']}` on: {hardware}{without}.", *tables])


def missing(name: str) -> str:
    """What stands where there is no file."""
    benchmark, _, device = name.partition("-")
    command = f"python -m tests.benchmarks.{benchmark}{f' --device {device}' if device else ''} --out docs/results/{name}.json"
    reason = "There was no GPU to measure on" if device == "cuda" else "Not measured yet"
    return f"{reason}; the command is `{command}`."


def filled(page: str, results: Path) -> str:
    """The page with the tables of the files in a folder between its markers."""

    def replacement(found: re.Match[str]) -> str:
        begin, name, end = found.groups()
        file = results / f"{name}.json"
        body = section(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else missing(name)
        return f"{begin}\n{body}\n\n{end}"

    return MARKED.sub(replacement, page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where the page is out of date")
    arguments = parser.parse_args()
    before = PAGE.read_text(encoding="utf-8")
    after = filled(before, RESULTS)
    if arguments.check and after != before:
        raise SystemExit("docs/performance.md is not what docs/results says: run python -m tests.benchmarks.tables")
    if after != before:
        temporary = PAGE.with_name(PAGE.name + ".tmp")
        temporary.write_text(after, encoding="utf-8")
        temporary.replace(PAGE)


if __name__ == "__main__":
    main()
