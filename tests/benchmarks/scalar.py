"""Circuits built unit by unit: 100,000 units over 784 variables, and a chain of 10,000 sums.

python -m tests.benchmarks.scalar --out docs/results/scalar.json
python -m tests.benchmarks.scalar --profile    # where build, check and compile spend their time
"""

from __future__ import annotations

import cProfile
import itertools
import pstats
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import pcircuits as pc
from tests.benchmarks.measure import Report, Settings, options, settings_of, timed

ARITIES = (2, 3, 4, 5, 6)
Scalar = pc.Units
T = TypeVar("T")


class _Builder:
    """Draws a tree of regions over the variables, and in every region products of its parts' units and sums of those."""

    def __init__(self, variables: int, units: int, seed: int) -> None:
        self._random = random.Random(seed)
        self._parts: dict[range, list[range]] = {}
        self._order = self._split(range(variables))  # parts before what they are part of
        inner = len(self._parts)
        self._leaf_units = max(2, round(0.35 * units / variables))
        left = units - 1 - variables * self._leaf_units
        self._products = max(3, round(0.55 * left / inner))
        self._sums = max(2, left // inner - self._products)
        self._root_products = left - (inner - 1) * (self._products + self._sums)

    def _split(self, variables: range) -> list[range]:
        """All regions below some variables, in neither balanced nor one-sided parts."""
        order, stack = [], [variables]
        while stack:
            region = stack.pop()
            order.append(region)
            if len(region) > 1:
                count = min(len(region), self._random.choices(ARITIES, (12, 4, 2, 1, 1))[0])
                inside = sorted(self._random.sample(range(1, len(region)), count - 1))
                if count == 2 and len(region) > 8:  # a third at least on either side keeps the depth near 20
                    inside = [self._random.randint(len(region) // 3, 2 * len(region) // 3)]
                ends = [0, *inside, len(region)]
                self._parts[region] = [region[a:b] for a, b in itertools.pairwise(ends)]
                stack.extend(self._parts[region])
        return order[::-1]

    def root(self) -> Scalar:
        units: dict[range, list[Scalar]] = {}
        for region in self._order[:-1]:
            units[region] = self._inner(region, units) if len(region) > 1 else self._leaves(region[0])
        whole = self._order[-1]
        products = self._products_of([units[part] for part in self._parts[whole]], self._root_products)
        return _weighted(products, self._weights(len(products)))

    def _leaves(self, variable: int) -> list[Scalar]:
        draw = self._random
        make: Sequence[Callable[[], Scalar]] = (
            lambda: pc.Normal(variable, draw.gauss(0.0, 1.0), draw.uniform(0.5, 1.5)),
            lambda: pc.Bernoulli(variable, draw.random()),
            lambda: pc.Categorical(variable, self._weights(4)),
        )
        family = make[variable % 3]
        return [family() for _ in range(self._leaf_units)]

    def _inner(self, region: range, units: dict[range, list[Scalar]]) -> list[Scalar]:
        """Sums of 2 to 6 products each; every product is in one of them at least."""
        products = self._products_of([units.pop(part) for part in self._parts[region]], self._products)
        dealt = [products[i :: self._sums] for i in range(self._sums)]
        sums = []
        for mine in dealt:
            arity = max(self._random.choice(ARITIES), len(mine))
            others = self._random.sample(products, min(len(products), arity + len(mine)))
            chosen = [*mine, *(unit for unit in others if all(unit is not own for own in mine))][:arity]
            sums.append(_weighted(chosen, self._weights(len(chosen))))
        return sums

    def _products_of(self, parts: list[list[Scalar]], count: int) -> list[Scalar]:
        """Products of one unit of each part; every unit is in one of them where there are enough."""
        decks = [self._random.sample(part, len(part)) for part in parts]
        return [pc.Product([deck[i % len(deck)] for deck in decks]) for i in range(count)]

    def _weights(self, count: int) -> list[float]:
        drawn = [self._random.uniform(0.1, 1.0) for _ in range(count)]
        return [weight / sum(drawn) for weight in drawn]


def _weighted(units: Sequence[Scalar], weights: Sequence[float]) -> Scalar:
    """Σ_i w_i · u_i, as users write it."""
    combination = sum(weight * unit for weight, unit in zip(weights, units, strict=True))
    return combination.units  # type: ignore[union-attr]


def scalar_circuit(variables: int, units: int, seed: int = 0) -> pc.Circuit:
    """A circuit of about so many units, each made by itself."""
    return pc.Circuit(_Builder(variables, units, seed).root())


def scalar_rows(variables: int, batch: int) -> Tensor:
    """Rows for the families of `scalar_circuit`: of every three variables a real one, a bit, and one of four states."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, variables, generator=generator)
    x[:, 1::3] = torch.randint(2, x[:, 1::3].shape, generator=generator).float()
    x[:, 2::3] = torch.randint(4, x[:, 2::3].shape, generator=generator).float()
    return torch.where(torch.rand(x.shape, generator=generator) < 0.25, torch.nan, x)


def chain(sums: int) -> pc.Circuit:
    """Sums of one variable, each of the sum before it and a Normal of its own."""
    unit: Scalar = pc.Normal("x", 0.0, 1.0)
    for i in range(sums):
        unit = (0.999 * unit + 0.001 * pc.Normal("x", i / sums, 1.0)).units
    return pc.Circuit(unit)


class CountOperations(TorchDispatchMode):
    """Counts the tensor operations that are dispatched within it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += 1
        return func(*args, **(kwargs or {}))


def laps(settings: Settings, make: Callable[[], pc.Circuit]) -> tuple[pc.CompiledCircuit, dict[str, float]]:
    """A compiled circuit, and the median seconds of building, checking and compiling it."""
    taken: dict[str, list[float]] = {"build": [], "check": [], "compile": []}
    for _ in range(settings.repeats):
        circuit = _lap(taken["build"], make)
        _lap(taken["check"], lambda circuit=circuit: [circuit.check().smooth, circuit.check().decomposable])
        model = _lap(taken["compile"], lambda circuit=circuit: circuit.compile(torch.float32, settings.device))
    return model, {name: statistics.median(seconds) for name, seconds in taken.items()}


def _lap(taken: list[float], call: Callable[[], T]) -> T:
    begin = time.perf_counter()
    result = call()
    taken.append(time.perf_counter() - begin)
    return result


def operations_of(call: Callable[[], object]) -> int:
    """How many tensor operations a call takes."""
    with CountOperations() as counted:
        call()
    return counted.count


def time_scalar(report: Report, settings: Settings, variables: int, units: int, batch: int) -> None:
    """The table of the circuit of many units."""
    model, seconds = laps(settings, lambda: scalar_circuit(variables, units))
    x = scalar_rows(variables, batch).to(settings.device)
    with torch.no_grad():
        model.log_prob(x)
        asked = [timed(lambda: model.log_prob(x), settings.device) for _ in range(settings.repeats)]
        operations = operations_of(lambda: model.log_prob(x))
    summary = model.circuit.summary()
    rows = [
        ["units", summary.units],
        ["edges", summary.edges],
        ["depth", summary.depth],
        *([f"{name}, s", taken] for name, taken in seconds.items()),
        ["build + check + compile, s", sum(seconds.values())],
        ["layers of the program", len(model.program.layers)],
        [f"tensor operations of log_prob, {batch} rows", operations],
        [f"log_prob of {batch} rows, s", statistics.median(asked)],
    ]
    report.add(
        f"{summary.units:,} scalar units over {variables} variables, float32 on {settings.device}", ["", ""], rows
    )


def time_chain(report: Report, settings: Settings, sums: int, batch: int) -> None:
    """The table of the chain."""
    model, seconds = laps(settings, lambda: chain(sums))
    x = torch.randn(batch, 1, generator=torch.Generator().manual_seed(1)).to(settings.device)
    loss = _value(lambda: timed(lambda: model.log_prob(x).mean().backward(), settings.device), settings.repeats)
    with torch.no_grad():
        asked = _value(lambda: timed(lambda: model.log_prob(x), settings.device), settings.repeats)
        mean = _value(lambda: timed(model.mean, settings.device), settings.repeats)
    rows = [
        *([f"{name}, s", taken] for name, taken in seconds.items()),
        [f"log_prob of {batch} rows, s", asked],
        [f"log_prob and backward of {batch} rows, s", loss],
        ["mean, s", mean],
    ]
    report.add(f"A chain of {sums:,} sums, float32 on {settings.device}", ["", ""], rows)


def _value(run: Callable[[], float], repeats: int) -> float:
    return statistics.median(run() for _ in range(repeats))


def profile(variables: int, units: int) -> None:
    """Print where building, checking and compiling spend their time, each by itself."""
    made: list[pc.Circuit] = []
    tasks: dict[str, Callable[[], object]] = {
        "build": lambda: made.append(scalar_circuit(variables, units)),
        "check": lambda: [made[0].check().smooth, made[0].check().decomposable, made[0].check().homogeneous],
        "compile": lambda: made[0].compile(torch.float32),
    }
    for name, task in tasks.items():
        profiler = cProfile.Profile()
        profiler.runcall(task)
        print(f"\n{name}")
        pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(25)


def main() -> None:
    parser = options(__doc__ or "", repeats=3)
    parser.add_argument("--units", type=int, default=100_000)
    parser.add_argument("--profile", action="store_true", help="print profiles, and time nothing")
    arguments = parser.parse_args()
    settings = settings_of(arguments)
    variables, units, sums = (24, 600, 60) if settings.smoke else (784, arguments.units, 10_000)
    if arguments.profile:
        profile(variables, units)
        return
    report = Report.start("scalar", settings)
    time_scalar(report, settings, variables, units, batch=4 if settings.smoke else 256)
    time_chain(report, settings, sums, batch=16)
    report.finish(settings)


if __name__ == "__main__":
    main()
