"""How the cost of a mixture of Normals grows: fitted exponents of time over components and over rows.

    python -m tests.benchmarks.scaling --out docs/results/scaling.json

An exponent of 1 is linear; below it, overheads still weigh.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from tests.benchmarks.measure import Cell, Report, Settings, medians, options, settings_of
from tests.benchmarks.mixture import Problem


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """The slope of log(seconds) over log(size), by least squares."""
    x = [math.log(size) for size in sizes]
    y = [math.log(taken) for taken in seconds]
    middle = sum(x) / len(x)
    return sum((a - middle) * b for a, b in zip(x, y, strict=True)) / sum((a - middle) ** 2 for a in x)


def seconds_of(settings: Settings, problems: Sequence[Problem]) -> dict[str, list[float]]:
    """Median seconds of log_prob and of the conditional mean for each problem; the problems take turns."""
    models = [problem.model() for problem in problems]
    taken: dict[str, list[float]] = {}
    with torch.no_grad():
        for query in ("log_prob", "conditional mean"):
            runs = {
                str(i): (
                    (lambda m=model, p=problem: m.log_prob(p.partly))
                    if query == "log_prob"
                    else (lambda m=model, p=problem: m.given(p.partly).mean())
                )
                for i, (model, problem) in enumerate(zip(models, problems, strict=True))
            }
            taken[query] = list(medians(runs, settings.repeats, settings.device).values())
    return taken


def grow(
    report: Report, settings: Settings, what: str, sizes: Sequence[int], fixed: str, problems: Sequence[Problem]
) -> None:
    """The table of one axis, with the exponents of all of it and of its upper half."""
    taken = seconds_of(settings, problems)
    rows: list[list[Cell]] = [[size, *(taken[query][i] for query in taken)] for i, size in enumerate(sizes)]
    half = len(sizes) // 2
    rows.append(["exponent", *(exponent(sizes, taken[query]) for query in taken)])
    rows.append(["exponent, upper half", *(exponent(sizes[half:], taken[query][half:]) for query in taken)])
    columns = [what, *(f"{query}, s" for query in taken)]
    report.add(f"Seconds by {what}, {fixed}, float32 on {settings.device}", columns, rows)


def main() -> None:
    parser = options(__doc__ or "", repeats=5)
    arguments = parser.parse_args()
    settings = settings_of(arguments)
    variables, batch, components = (8, 4, 16) if settings.smoke else (784, 256, 4096)
    sizes = [2**k for k in (range(2, 6) if settings.smoke else range(8, 15))]
    batches = [2**k for k in (range(1, 5) if settings.smoke else range(4, 12))]
    report = Report.start("scaling", settings)
    problems = [Problem(n, variables, batch, torch.float32, settings.device) for n in sizes]
    grow(report, settings, "components", sizes, f"D = {variables}, {batch} rows", problems)
    del problems
    problems = [Problem(components, variables, b, torch.float32, settings.device) for b in batches]
    grow(report, settings, "rows", batches, f"D = {variables}, {components:,} components", problems)
    report.finish(settings)


if __name__ == "__main__":
    main()
