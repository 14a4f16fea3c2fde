"""A mixture of 16,384 products of 784 Normals: 256 rows, half of whose pixels are missing.

    python -m tests.benchmarks.mixture --out docs/results/mixture.json

Against three bare matrix products of those shapes, which is what the likelihood amounts to, and against the best
broadcast of torch.distributions among several block sizes.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import pcircuits as pc
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
    timed,
)

SAMPLES = 16
QUERIES = ("log_prob", "mean", "sample")
Block = tuple[int, int]


class Problem:
    """Parameters (D, N) of Normals, N weights, and rows (B, D) near some of the components, with what is observed."""

    def __init__(self, components: int, variables: int, batch: int, dtype: torch.dtype, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        loc = torch.rand(variables, components, generator=generator)
        scale = 0.05 + 0.25 * torch.rand(variables, components, generator=generator)
        near = torch.randint(components, (batch,), generator=generator)
        x = (loc + scale * torch.randn(variables, 1, generator=generator))[:, near].T
        observed = torch.rand(batch, variables, generator=generator) < 0.5
        weights = torch.softmax(torch.randn(components, generator=generator, dtype=torch.float64), 0)
        self.dtype, self.device = dtype, device
        self.loc, self.scale = loc.to(device, dtype), scale.to(device, dtype)
        self.x, self.observed = x.to(device, dtype), observed.to(device)
        self.weights = weights
        self.partly = torch.where(self.observed, self.x, torch.nan)

    def circuit(self) -> pc.Circuit:
        pixels = pc.Normal(range(len(self.loc)), self.loc.cpu(), self.scale.cpu())
        return pc.Circuit(pc.mixture(self.weights, pixels.prod()))

    def model(self) -> pc.CompiledCircuit:
        return self.circuit().compile(self.dtype, self.device)

    def direct(self, rows: int) -> Tensor:
        """log p of the first rows in float64, one difference after the other: Σ_v log N, then log-sum-exp."""
        x, observed = self.x[:rows].double().cpu(), self.observed[:rows].cpu()
        loc, scale = self.loc.double().cpu(), self.scale.double().cpu()
        each = []
        for row, seen in zip(x, observed, strict=True):
            z = (row[seen, None] - loc[seen]) / scale[seen]
            log_densities = -0.5 * z * z - scale[seen].log() - 0.5 * math.log(2 * math.pi)
            each.append(torch.logsumexp(log_densities.sum(0) + self.weights.log(), 0))
        return torch.stack(each)


def asking(model: pc.CompiledCircuit, problem: Problem) -> dict[str, Callable[[], object]]:
    """The queries that are timed; `given` checks that the evidence is possible, and is part of what comes after it."""
    generator = torch.Generator().manual_seed(1)
    return {
        "log_prob": lambda: model.log_prob(problem.partly),
        "given": lambda: model.given(problem.partly),
        "mean": lambda: model.given(problem.partly).mean(),
        "sample": lambda: model.given(problem.partly).sample(SAMPLES, generator=generator),
    }


def bare_products(problem: Problem) -> Callable[[], object]:
    """Three products of (B, D) by (D, N), of which one result is live at a time, as their sum needs it."""
    weights = [torch.rand_like(problem.loc) for _ in range(3)]
    return lambda: [problem.x @ weight for weight in weights]


def blocks(problem: Problem, block: Block) -> Iterator[tuple[slice, list[slice]]]:
    """Slices of rows, with the slices of components to take with each."""
    batch, components = len(problem.x), problem.loc.shape[1]
    columns = [slice(begin, begin + block[1]) for begin in range(0, components, block[1])]
    yield from ((slice(begin, begin + block[0]), columns) for begin in range(0, batch, block[0]))


def broadcast_where(problem: Problem, block: Block) -> Tensor:
    """Normal.log_prob of (rows, components, D), and zero where nothing is observed."""
    return _broadcast(problem, block, lambda logs, seen: torch.where(seen[:, None], logs, 0.0).sum(-1))


def broadcast_einsum(problem: Problem, block: Block) -> Tensor:
    """The same with the mask as a batched product of matrix and vector, which makes one intermediate less."""
    return _broadcast(problem, block, lambda logs, seen: torch.einsum("bnd,bd->bn", logs, seen.to(logs.dtype)))


def _broadcast(problem: Problem, block: Block, reduce: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    loc, scale, logits = problem.loc.T.contiguous(), problem.scale.T.contiguous(), problem.weights.log()
    logits = logits.to(problem.device, problem.dtype)
    answers = []
    for rows, columns in blocks(problem, block):
        x, seen = problem.x[rows, None], problem.observed[rows]
        parts = [reduce(Normal(loc[c], scale[c], validate_args=False).log_prob(x), seen) + logits[c] for c in columns]
        answers.append(torch.logsumexp(torch.cat(parts, 1), 1))
    return torch.cat(answers)


def mixture_same_family(problem: Problem, block: Block) -> Tensor:
    """MixtureSameFamily, all of whose pixels are observed (it knows no missing ones): an easier question."""
    loc, scale = problem.loc.T.contiguous(), problem.scale.T.contiguous()
    logits = problem.weights.log().to(problem.device, problem.dtype)
    answers = []
    for rows, columns in blocks(problem, block):
        parts = []
        for c in columns:
            mixed = Categorical(logits=logits[c], validate_args=False)
            leaves = Independent(Normal(loc[c], scale[c], validate_args=False), 1, validate_args=False)
            made = MixtureSameFamily(mixed, leaves, validate_args=False)
            parts.append(made.log_prob(problem.x[rows]) + torch.logsumexp(logits[c], 0))
        answers.append(torch.logsumexp(torch.stack(parts), 0))
    return torch.cat(answers)


BROADCASTS: dict[str, Callable[[Problem, Block], Tensor]] = {
    "where": broadcast_where,
    "einsum": broadcast_einsum,
    "MixtureSameFamily, nothing missing": mixture_same_family,
}


def best_broadcast(problem: Problem, columns: int) -> tuple[str, Block]:
    """The fastest broadcast and block of (rows, components), found on a part of the components."""
    part = object.__new__(Problem)
    part.__dict__.update(problem.__dict__)
    part.loc, part.scale, part.weights = problem.loc[:, :columns], problem.scale[:, :columns], problem.weights[:columns]
    batch = len(problem.x)
    sizes = [s for s in itertools.product((8, 32, batch), (1, 4, 16, 64)) if s[0] <= batch and s[1] <= columns]
    found = {}
    for (name, run), block in itertools.product(BROADCASTS.items(), sizes):
        run(part, block)
        found[name, block] = timed(lambda run=run, block=block: run(part, block), problem.device)
    return min(found, key=lambda key: found[key])


def time_one(report: Report, settings: Settings, problem: Problem, limit: Callable[[], object]) -> None:
    """The table of one dtype: our queries, the bare products, the best broadcast; ratios to both."""
    model = problem.model()
    name = str(problem.dtype).removeprefix("torch.")
    kind, block = best_broadcast(problem, min(256, problem.loc.shape[1]))
    broadcast = BROADCASTS[kind]
    contenders: dict[str, Callable[[], object]] = {
        **asking(model, problem),
        "three products": bare_products(problem),
        "three products, float64": limit,
        "broadcast": lambda: broadcast(problem, block),
    }
    with torch.no_grad():
        seconds = medians(contenders, settings.repeats, settings.device)
    labels = {
        "log_prob": "log_prob",
        "given": "given (checks the evidence)",
        "mean": "given, and mean",
        "sample": f"given, and {SAMPLES} samples a row",
        "three products": f"three bare products, {name}",
        "three products, float64": "three bare products, float64",
        "broadcast": f"torch.distributions ({kind}, blocks of {block[0]} × {block[1]})",
    }
    if problem.dtype == torch.float64:
        del labels["three products"]
    rows: list[list[Cell]] = [
        [label, seconds[key], seconds[key] / seconds["three products, float64"], seconds[key] / seconds["log_prob"]]
        for key, label in labels.items()
    ]
    shape = f"N = {problem.loc.shape[1]:,}, D = {problem.loc.shape[0]}, B = {len(problem.x)}"
    report.add(
        f"{shape}, half missing, {name} on {settings.device}",
        ["", "seconds", "/ three float64 products", "/ log_prob"],
        rows,
    )


def accuracy(problem: Problem, rows: int) -> list[Cell]:
    """The largest error of log_prob over max(1, |log p|), against the direct sum."""
    with torch.no_grad():
        answer = problem.model().log_prob(problem.partly[:rows]).double().cpu()
    exact = problem.direct(rows)
    error = ((answer - exact).abs() / exact.abs().clamp_min(1)).max().item()
    return [str(problem.dtype).removeprefix("torch."), str(problem.device), rows, error, exact.abs().median().item()]


def costs(problem: Problem, arguments: list[str], queries: Sequence[str]) -> list[list[Cell]]:
    """Seconds to build, check and compile; peak memory of a process that builds and asks once."""
    begin = time.perf_counter()
    circuit = problem.circuit()
    built = time.perf_counter()
    verdicts = circuit.check()
    assert verdicts.smooth
    assert verdicts.decomposable
    checked = time.perf_counter()
    circuit.compile(problem.dtype, problem.device)
    compiled = time.perf_counter()
    name = str(problem.dtype).removeprefix("torch.")
    return [
        [f"build, {name}", "seconds", built - begin],
        [f"check, {name}", "seconds", checked - built],
        [f"compile, {name}", "seconds", compiled - checked],
        [f"build + check + compile, {name}", "seconds", compiled - begin],
        *(
            [
                f"peak of a process that asks {what}, {name}",
                "MiB",
                peak_of("mixture", [*arguments, "--peak", what, name]),
            ]
            for what in queries
        ),
    ]


def ask_once(what: str, problem: Problem) -> None:
    """Build the circuit, ask once, and print the peak memory of it all."""
    forget_peak(problem.device)
    model = problem.model()
    problem.loc = problem.scale = torch.empty(0)  # the circuit has its own
    with torch.no_grad():
        if what != "nothing":
            asking(model, problem)[what]()
    print(peak_mib(problem.device))


def main() -> None:
    parser = options(__doc__ or "", repeats=3)
    parser.add_argument("--components", type=int, default=16_384)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    settings = settings_of(arguments)
    sizes = (64, 16, 8) if settings.smoke else (arguments.components, 784, arguments.batch)
    if arguments.peak is not None:
        ask_once(arguments.peak[0], Problem(*sizes, getattr(torch, arguments.peak[1]), settings.device))
        return
    report = Report.start("mixture", settings)
    child = ["--threads", str(settings.threads), "--device", settings.device.type]
    child += ["--smoke"] if settings.smoke else ["--components", str(sizes[0]), "--batch", str(sizes[2])]
    limit = bare_products(Problem(*sizes, torch.float64, settings.device))
    errors, spent = [], []
    for dtype in (torch.float32, torch.float64):
        problem = Problem(*sizes, dtype, settings.device)
        spent += costs(problem, child, ["log_prob"] if settings.smoke else ["nothing", *QUERIES])
        time_one(report, settings, problem, limit)
        errors.append(accuracy(problem, min(16, sizes[2])))
    report.add("Before the first answer, and memory", ["", "", ""], spent)
    columns = ["dtype", "device", "rows", "largest error / max(1, |log p|)", "median |log p|"]
    report.add("Against the direct log-sum-exp in float64", columns, errors)
    report.finish(settings)


if __name__ == "__main__":
    main()
