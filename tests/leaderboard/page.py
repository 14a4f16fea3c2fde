"""Writes `docs/results.md` from the results that rows left in `docs/leaderboard.json`.

python -m tests.leaderboard.page
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pcircuits.files import write_whole

__all__ = ["page"]

DOCS = Path(__file__).parents[2] / "docs"

HEAD = """\
# Results

Likelihoods on public data. Every row is made by `python -m tests.leaderboard ROW --data DIR --work DIR --out
docs/leaderboard.json`: it is seeded, goes on where it was stopped, and this page is written from what it left, by
`python -m tests.leaderboard.page`. MNIST and Fashion-MNIST are integers 0..255, judged on all 10,000 test images in discrete
bits per dimension (−log2 of the mass of an image, over 784); the last 5,000 training images decide when to stop. Binary sets
are judged in nats, the mean of log p over the test rows, then over seeds. Seconds are those of training, on the processor named
below, beside other work.
"""


def page(results: Mapping[str, Mapping[str, object]]) -> str:
    """The page, from results by the names of rows."""
    parts = [HEAD]
    for unit, title in (("test bits per dimension", "Images"), ("test nats", "Binary data")):
        rows = {name: row for name, row in results.items() if unit in row}
        if not rows:
            continue
        parts.append(
            f"## {title}\n\n| row | {unit} | parameters | epochs | seconds | processor |\n|---|---|---|---|---|---|"
        )
        parts += [f"{_line(name, row, unit)}" for name, row in sorted(rows.items())]
        parts.append("")
    return "\n".join(parts)


def _line(name: str, row: Mapping[str, object], unit: str) -> str:
    value = f"{row[unit]:.3f}"
    if "standard deviation over seeds" in row:
        value += f" ± {row['standard deviation over seeds']:.3f} ({row['seeds']} seeds)"
    seconds = row.get("seconds of EM", row.get("seconds of training", row["seconds"]))
    parameters = row.get("parameters", "")
    shown = f"{parameters:,}" if isinstance(parameters, int) else f"{parameters}"
    return f"| {name} | {value} | {shown} | {row.get('epochs', '')} | {seconds} | {row['processor']}, {row['threads']} thread |"


def main() -> None:
    """Write the page."""
    results = json.loads((DOCS / "leaderboard.json").read_text())
    write_whole(DOCS / "results.md", lambda file: file.write(page(results).encode()))


if __name__ == "__main__":
    main()
