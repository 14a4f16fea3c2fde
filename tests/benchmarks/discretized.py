"""A mixture of 16,384 products of 784 discretised logistics with 256 levels: log_prob of the MNIST test images.

    python -m tests.benchmarks.discretized --data-root .data --out docs/results/discretized.json
    python -m tests.benchmarks.discretized --components 1024    # quick
    python -m tests.benchmarks.discretized --components 1024 --table-columns 16 32 64 128    # by chunk width

`--smoke` takes scikit-learn's digits, which need no files.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

import pcircuits as pc
from pcircuits.program.layers import leaves
from tests.benchmarks.measure import (
    Cell,
    Report,
    Settings,
    forget_peak,
    medians,
    options,
    peak_mib,
    peak_of,
    settings_of,
)
from vq_sources import load

SAMPLES = 16
SMALL = 2048
"""Up to so many components, the queries of few images are timed too."""


class Problem:
    """Images (n, D) of integers, and parameters (D, N) of components that start at training images."""

    def __init__(self, arguments: argparse.Namespace, dtype: torch.dtype, device: torch.device) -> None:
        data = load("digits") if arguments.smoke else load("mnist", root=arguments.data_root)
        components, images = (32, 16) if arguments.smoke else (arguments.components, arguments.images)
        generator = torch.Generator().manual_seed(0)
        centres = data.train.images.flatten(1)
        centres = centres[torch.randint(len(centres), (components,), generator=generator)].T.double()  # (D, N)
        self.levels = data.levels
        self.dtype, self.device = dtype, device
        self.loc = ((centres + 0.5) / data.levels).to(torch.float32)
        self.scale = 0.05 + 0.1 * torch.rand(self.loc.shape, generator=generator)
        self.weights = torch.full((components,), 1 / components, dtype=torch.float64)
        self.x = data.test.images.flatten(1)[:images].to(device, dtype)
        missing = torch.rand(self.x.shape, generator=generator) < 0.5
        self.partly = torch.where(missing.to(device), torch.nan, self.x)

    def circuit(self) -> pc.Circuit:
        pixels = pc.DiscretizedLogistic(range(len(self.loc)), self.loc, self.scale, levels=self.levels)
        return pc.Circuit(pc.mixture(self.weights, pixels.prod()))

    def direct(self, rows: int) -> Tensor:
        """log p of the first images in float64, bin by bin: σ(b) − σ(a) from the tail that keeps its digits."""
        loc, scale = self.loc.double(), self.scale.double()
        each = []
        for x in self.x[:rows].double().cpu():
            a = (x[:, None] / self.levels - loc) / scale
            b = ((x[:, None] + 1) / self.levels - loc) / scale
            a = torch.where(x[:, None] == 0, -torch.inf, a)
            b = torch.where(x[:, None] == self.levels - 1, torch.inf, b)
            flip = a > 0
            a, b = torch.where(flip, -b, a), torch.where(flip, -a, b)
            logs = (torch.sigmoid(b) - torch.sigmoid(a)).log()
            each.append(torch.logsumexp(logs.sum(0) + self.weights.log(), 0))
        return torch.stack(each)


def one_by_one(problem: Problem, rows: int, columns: int) -> float:
    """Seconds of evaluating every mass by itself, for all images and components, scaled up from a part of both."""
    model = pc.DiscretizedLogistic(
        range(len(problem.loc)), problem.loc[:, :columns], problem.scale[:, :columns], levels=problem.levels
    )
    (family, parameters) = model.family, model.parameters
    assert isinstance(parameters, dict)
    values = {name: p.value.to(problem.device, problem.dtype) for name, p in parameters.items()}
    x = problem.x[:rows, :, None, None]
    observed = torch.ones_like(x, dtype=torch.bool)
    family.log_prob(x, observed, values)
    begin = time.perf_counter()
    family.log_prob(x, observed, values).sum(1)
    whole = len(problem.x) * problem.loc.shape[1] / (rows * columns)
    return (time.perf_counter() - begin) * whole


def time_one(report: Report, settings: Settings, problem: Problem) -> None:
    """The table of one dtype."""
    name = str(problem.dtype).removeprefix("torch.")
    begin = time.perf_counter()
    circuit = problem.circuit()
    assert circuit.check().decomposable
    model = circuit.compile(problem.dtype, problem.device)
    made = time.perf_counter() - begin
    generator = torch.Generator().manual_seed(1)
    given = problem.partly[:256]
    images, components = len(problem.x), problem.loc.shape[1]
    contenders = {
        f"log_prob of {images:,} images": lambda: model.log_prob(problem.x),
        f"log_prob of {len(given)} images, half missing": lambda: model.log_prob(given),
        f"conditional mean of {len(given)}": lambda: model.given(given).mean(),
        f"{SAMPLES} conditional samples of {len(given)}": lambda: model.given(given).sample(
            SAMPLES, generator=generator
        ),
    }
    if components > SMALL:  # a table of every component and state takes as long for few images as for many
        contenders = dict([next(iter(contenders.items()))])
    with torch.no_grad():
        seconds = medians(contenders, settings.repeats, settings.device)
        alone = one_by_one(problem, min(16, images), min(64, components))
        rows = min(8, images)
        exact = problem.direct(rows)
        error = (
            ((model.log_prob(problem.x[:rows]).double().cpu() - exact).abs() / exact.abs().clamp_min(1)).max().item()
        )
    first = next(iter(seconds.values()))
    table: list[list[Cell]] = [[label, "seconds", taken] for label, taken in seconds.items()]
    table += [
        ["every mass by itself (scaled up from a part)", "seconds", alone],
        ["that / log_prob", "", alone / first],
        ["build + check + compile", "seconds", made],
        [f"largest error / max(1, |log p|), {rows} images", "", error],
    ]
    shape = f"N = {components:,}, D = {len(problem.loc)}, {problem.levels} levels"
    report.add(f"{shape}, {name} on {settings.device}", ["", "", ""], table)


def by_width(report: Report, settings: Settings, problem: Problem, widths: list[int]) -> None:
    """Seconds of log_prob by how many components share a table, in turns."""
    before = leaves.TABLE_COLUMNS
    model = problem.circuit().compile(problem.dtype, problem.device)

    def run(width: int) -> None:
        leaves.TABLE_COLUMNS = width
        model.log_prob(problem.x)

    with torch.no_grad():
        runs = {str(width): (lambda width=width: run(width)) for width in widths}
        seconds = medians(runs, settings.repeats, settings.device)
    leaves.TABLE_COLUMNS = before
    rows = [[int(width), taken] for width, taken in seconds.items()]
    name = str(problem.dtype).removeprefix("torch.")
    title = f"log_prob of {len(problem.x):,} images by the width of a table, {name} on {settings.device}"
    report.add(f"{title} (as shipped: {before})", ["components", "seconds"], rows)


def main() -> None:
    parser = options(__doc__ or "", repeats=1)
    parser.add_argument("--data-root", type=Path, help="where MNIST lies; by default as for vq_sources.load")
    parser.add_argument("--components", type=int, default=16_384)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "float64"], default=["float32"])
    parser.add_argument("--table-columns", type=int, nargs="+", help="time these widths of tables, too")
    parser.add_argument("--peak", choices=["float32", "float64"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    settings = settings_of(arguments)
    if arguments.peak is not None:
        problem = Problem(arguments, getattr(torch, arguments.peak), settings.device)
        forget_peak(settings.device)
        with torch.no_grad():
            problem.circuit().compile(problem.dtype, problem.device).log_prob(problem.x)
        print(peak_mib(settings.device))
        return
    report = Report.start("discretized", settings)
    memory: list[list[Cell]] = []
    for name in arguments.dtypes:
        problem = Problem(arguments, getattr(torch, name), settings.device)
        time_one(report, settings, problem)
        if arguments.table_columns:
            by_width(report, settings, problem, arguments.table_columns)
        child = ["--threads", str(settings.threads), "--device", settings.device.type, "--peak", name]
        child += ["--components", str(arguments.components), "--images", str(arguments.images)]
        child += ["--smoke"] if settings.smoke else []
        child += ["--data-root", str(arguments.data_root.absolute())] if arguments.data_root else []
        memory.append([name, peak_of("discretized", child)])
    report.add("Peak memory of a process that builds, and asks log_prob once", ["dtype", "MiB"], memory)
    report.finish(settings)


if __name__ == "__main__":
    main()
