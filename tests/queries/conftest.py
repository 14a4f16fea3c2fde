"""The table: circuits of every make × compile options; and, for each circuit, rows, evidence and the oracle's answers."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pcircuits as pc
from pcircuits.testing import Oracle
from pcircuits.testing.oracle import NormalLeaf


def positive(seed: int, *shape: int) -> Tensor:
    """Numbers in [0.1, 1)."""
    return torch.as_tensor(np.random.default_rng(seed).uniform(0.1, 1.0, shape))


def simplices(seed: int, *shape: int) -> Tensor:
    value = positive(seed, *shape)
    return value / value.sum(-1, keepdim=True)


def locations(seed: int, *shape: int) -> Tensor:
    return torch.as_tensor(np.random.default_rng(seed).normal(0.0, 1.5, shape))


def rain() -> pc.Circuit:
    wet = [pc.Bernoulli("wet", 0.1), pc.Bernoulli("wet", 0.9)]
    return pc.Circuit(0.8 * (pc.Indicator("rain", 0) * wet[0]) + 0.2 * (pc.Indicator("rain", 1) * wet[1]))


def scalar_graph() -> pc.Circuit:
    """Units one by one, shared: a graph and no tree."""
    a = [pc.Bernoulli("a", p) for p in (0.1, 0.5, 0.8)]
    b = [pc.Categorical("b", p) for p in ([0.2, 0.3, 0.5], [0.7, 0.2, 0.1])]
    c = [pc.Normal("c", loc, scale) for loc, scale in ((-1.0, 0.5), (1.0, 2.0))]
    ab = [0.3 * (a[0] * b[0]) + 0.7 * (a[1] * b[1]), 0.6 * (a[2] * b[0]) + 0.4 * (a[0] * b[1])]
    cs = 0.25 * c[0] + 0.75 * c[1]
    return pc.Circuit(0.5 * (ab[0] * c[0]) + 0.3 * (ab[1] * cs) + 0.2 * (ab[0] * cs), variables=["c", "a", "b"])


def normal_mixture() -> pc.Circuit:
    pixels = pc.Normal(range(4), locations(1, 4, 5), positive(2, 4, 5))
    return pc.Circuit(pixels.prod().sum(simplices(3, 5)))


def layered_normals() -> pc.Circuit:
    """Products of inputs that a layout must put into another order than their parameters'."""
    pixels = pc.Normal(range(4), locations(4, 4, 3), positive(5, 4, 3))
    pairs = pixels.prod([[0, 2], [3, 1]])
    return pc.Circuit(pairs.sum(positive(6, 2, 2, 3)).prod().sum(simplices(7, 2)))


def discretised_mixture() -> pc.Circuit:
    pixels = pc.DiscretizedLogistic(range(3), positive(8, 3, 6), 0.3 * positive(9, 3, 6), levels=5, uniform=0.1)
    return pc.Circuit(pixels.prod().sum(simplices(10, 6)))


def categorical_mixture() -> pc.Circuit:
    probs = simplices(11, 3, 4, 3)
    probs[0, 0], probs[1, 2], probs[2, 1] = torch.eye(3, dtype=torch.float64)
    return pc.Circuit(pc.mixture(simplices(12, 4), pc.Categorical(["x", "y", "z"], probs).prod()))


def layered() -> pc.Circuit:
    """Dense sums of every form, groups and outer products."""
    leaves = pc.Categorical(range(4), simplices(13, 4, 3, 2))
    sums = leaves.sum(simplices(14, 4, 2, 3))
    shared = sums[[0, 3]].outer(sums[[2, 1]]).sum(pc.Parameter(simplices(15, 3, 4), pc.simplex))
    return pc.Circuit(shared.prod([[1, 0]]).sum(simplices(16, 3)))


def mixes() -> pc.Circuit:
    """Elementwise sums: weights for each unit, a weight for each child, and a (1, 1) child that repeats."""
    u, v = (pc.Categorical(["p", "q"], simplices(seed, 2, 3, 3)) for seed in (17, 18))
    weights = simplices(19, 2, 3, 2)
    mixed = weights[..., 0] * u + weights[..., 1] * v
    pair = (0.4 * mixed + 0.6 * u).prod()
    alone = pc.Bernoulli("r", 0.3) * pair
    other = pc.Bernoulli("r", positive(20, 3)) * pc.mixture([0.1, 0.9], [pair, v.prod()])
    scalar = pc.Bernoulli("r", 0.25) * pair[0, 1]
    return pc.Circuit((0.5 * alone + 0.3 * other + 0.2 * scalar).sum(simplices(21, 3)))


def zero_weights() -> pc.Circuit:
    leaves = pc.Bernoulli(["a", "b"], torch.tensor([[0.0, 1.0, 0.3], [1.0, 0.5, 0.0]], dtype=torch.float64))
    pairs = leaves.prod()
    dense = pairs.sum([[0.0, 0.7, 0.3], [0.5, 0.0, 0.5], [1.0, 0.0, 0.0]])
    return pc.Circuit(0.0 * dense[0, 0] + 0.6 * dense[0, 1] + 0.4 * dense[0, 2])


def several_roots() -> pc.Circuit:
    pixels = pc.Normal(range(2), locations(22, 2, 4), positive(23, 2, 4)).prod()
    kinds = pc.Categorical("kind", simplices(24, 4, 3))
    return pc.Circuit((pixels * kinds).sum(simplices(25, 3, 4)), variables=["kind", 1, 0])


def mixed_families() -> pc.Circuit:
    """Every family in one circuit that is not normalised, with constants."""
    one = pc.Normal("n", 0.5, 0.25) * pc.DiscretizedNormal("d", 0.4, 0.2, levels=4) * pc.Indicator("i", 2)
    two = pc.Normal("n", -1.0, 1.0) * pc.DiscretizedLogistic("d", 0.9, 0.1, levels=4, uniform=0.05)
    three = pc.Constant(2.5) * pc.Categorical("d", [0.0, 0.2, 0.3, 0.5]) * pc.Normal("n", 3.0, 2.0)
    state = pc.concat([pc.Indicator("i", 0), pc.Indicator("i", 1)], axis="width").sum([3.0, 0.5])
    return pc.Circuit(1.5 * one + 0.2 * (two * state) + 0.75 * (three * state))


class Decoder(nn.Module):
    """A source: Normal parameters from a small network over codes."""

    def __init__(self, variables: int, columns: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(26)
        self.register_buffer("codes", torch.randn(columns, 3, generator=generator, dtype=torch.float64))
        self.weight = nn.Parameter(torch.randn(3, 2, variables, generator=generator, dtype=torch.float64))

    def parameters_for(self, columns: Tensor) -> dict[str, Tensor]:
        loc, raw = torch.einsum("nc,cpv->pvn", self.codes[columns], self.weight)
        return {"loc": loc, "scale": (0.2 * raw).exp()}


def sourced() -> pc.Circuit:
    decoded = pc.inputs(pc.families.Normal(), range(3), pc.Sourced(Decoder(3, 6), 3, 6))
    return pc.Circuit(pc.mixture(simplices(27, 6), decoded.prod()))


def sourced_layer() -> pc.Circuit:
    """Sourced units that are not fused, and selected one by one."""
    decoded = pc.inputs(pc.families.Normal(), range(3), pc.Sourced(Decoder(3, 4), 3, 4))
    sums = decoded.sum(simplices(28, 2, 4))
    return pc.Circuit(0.5 * sums[:, 0].prod() + 0.5 * (sums[[2, 1], 1].prod() * decoded[0, 3]))


def deep_chain() -> pc.Circuit:
    """A hidden Markov model of four steps under fifteen sums that nest."""
    emissions = pc.Categorical(range(4), simplices(29, 4, 2, 3))
    hidden = emissions[3]
    for t in (2, 1, 0):
        hidden = emissions[t] * hidden.sum(simplices(30 + t, 2, 2))
    other = emissions.prod()
    for step in range(15):
        weight = 0.02 * step + 0.5
        hidden = weight * hidden + (1 - weight) * other
    return pc.Circuit(hidden.sum(simplices(33, 2)))


def wired() -> pc.Circuit:
    """Units taken one by one, repeated, and in other orders; whole rows in reverse."""
    u = pc.Categorical(["a", "b", "c"], simplices(34, 3, 3, 2))
    shuffled = pc.concat([u[2], u[0, [2, 0, 1]], u[1]], axis="regions")
    columns = pc.concat([u[[2, 0, 1], 1], u[[2, 0, 1], [0, 2]]], axis="width")
    both = pc.concat([shuffled.prod(), columns.prod(), u[::-1].prod()[0, [1, 1]]], axis="width")
    return pc.Circuit(both.sum(simplices(35, both.width)) * pc.Constant(0.5))


def gated() -> pc.Circuit:
    """Deterministic arrays: indicators decide every sum."""
    gate = pc.Indicator("gate", [0, 1, 2])
    switch = pc.Indicator("switch", [[0, 1, 0]])
    pair = pc.Normal(["x", "y"], locations(36, 2, 3), positive(37, 2, 3)).prod()
    low = 0.3 * (pc.Indicator("switch", 0) * pair) + 0.7 * (pc.Indicator("switch", 1) * pair[0, [1, 2, 0]])
    return pc.Circuit((gate * low).sum([0.2, 0.5, 0.3]) if switch else pair)


def tied() -> pc.Circuit:
    weights = pc.Parameter(simplices(38, 2), pc.simplex)
    loc = pc.Parameter(locations(39, 2, 2), pc.real)
    scale = pc.Parameter(torch.tensor(0.75, dtype=torch.float64), pc.positive)
    one, two = pc.Normal(["u", "v"], loc, scale), pc.Normal(["w", "z"], loc, scale)
    return pc.Circuit(one.prod().sum(weights) * (two.sum(weights)).prod())


CIRCUITS: dict[str, Callable[[], pc.Circuit]] = {
    make.__name__: make
    for make in (
        rain,
        scalar_graph,
        normal_mixture,
        layered_normals,
        discretised_mixture,
        categorical_mixture,
        layered,
        mixes,
        zero_weights,
        several_roots,
        mixed_families,
        sourced,
        sourced_layer,
        deep_chain,
        wired,
        gated,
        tied,
    )
}


@dataclass(eq=False)
class Case:
    """A circuit, its oracle, and rows to ask about."""

    name: str
    circuit: pc.Circuit
    every: int = 1
    """Of the rows, every so manieth."""
    cache: dict[object, object] = field(default_factory=dict)

    @cached_property
    def oracle(self) -> Oracle:
        return Oracle(self.circuit)

    @property
    def roots(self) -> range:
        return range(self.circuit.num_roots)

    @cached_property
    def values(self) -> list[list[float]]:
        """For each variable, all of its states; or points that float32 holds exactly."""
        found = []
        for label, leaves in self.oracle.leaves_of.items():
            continuous = isinstance(leaves[0], NormalLeaf)
            assert label in self.circuit.variables
            found.append([-2.5, -0.125, 0.75, 3.0] if continuous else self.oracle.candidates(label))
        return found

    @cached_property
    def rows(self) -> Tensor:
        """(B, D): every pattern of missing values, with values for each (twice where there are few patterns)."""
        pick = np.random.default_rng(40)
        rows = []
        for pattern in itertools.product([False, True], repeat=len(self.values)):
            for _ in range(2 if len(self.values) < 4 else 1):
                rows.append(
                    [pick.choice(v) if seen else math.nan for v, seen in zip(self.values, pattern, strict=True)]
                )
        return torch.tensor(rows[:: self.every], dtype=torch.float64)

    @cached_property
    def given(self) -> Tensor:
        """Some rows (B, D) that every root can have produced, from nothing observed to everything."""
        good = [
            r for r in self.rows if all(self.oracle.log_value(self.row(r), root) > -math.inf for root in self.roots)
        ]
        return torch.stack(good[:: max(1, len(good) * self.every // 6)])

    def row(self, values: Tensor) -> dict[pc.scope.Variable, float]:
        return self.oracle.row(values.tolist())

    def answer(self, key: object, compute: Callable[[], object]) -> Tensor:
        """What the oracle says, (float64), computed once."""
        if key not in self.cache:
            self.cache[key] = torch.tensor(compute(), dtype=torch.float64)
        found = self.cache[key]
        assert isinstance(found, Tensor)
        return found

    def by_variable(self, key: str, statistic: Callable[..., dict[object, float]], given: bool, root: int) -> Tensor:
        """A statistic (B, D) of every variable; (D,) where nothing is given."""

        def compute() -> object:
            rows = [self.row(r) for r in self.given] if given else [{}]
            table = [list(statistic(row, root=root).values()) for row in rows]
            return table if given else table[0]

        return self.answer((key, given, root), compute)


DEFAULT = ("fold", "fuse", "chain", "layout", "chunk")
OPTIONS: dict[str, dict[str, object]] = {
    "all rewrites": {},
    **{f"no {name}": {"rewrites": [other for other in DEFAULT if other != name]} for name in DEFAULT},
    "no rewrites": {"rewrites": []},
    "chunks of one": {"memory": 1},
    "float32": {"dtype": torch.float32},
}


@dataclass(frozen=True, eq=False)
class Cell:
    """A case compiled in one way."""

    case: Case
    model: pc.CompiledCircuit
    tolerance: float

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.tolerance > 1e-6 else torch.float64

    @property
    def given(self) -> Tensor:
        return self.case.given

    def of_root(self, root: int) -> pc.queries.compiled.Queries:
        return self.model.root(root) if self.case.circuit.num_roots > 1 else self.model

    def close(self, got: Tensor, want: Tensor) -> None:
        """|got - want| <= tolerance · max(1, |want|), infinities exactly, in the model's dtype."""
        assert got.dtype == self.dtype
        assert got.shape == want.shape, f"{tuple(got.shape)}, not {tuple(want.shape)}"
        got = got.double()
        exact = torch.isfinite(want)
        assert torch.equal(got[~exact], want[~exact])
        error = (got - want)[exact].abs() / want[exact].abs().clamp(min=1.0)
        assert error.max().item() <= self.tolerance if error.numel() else True, f"off by {error.max().item():.3g}"


_cases: dict[tuple[str, int], Case] = {}
_models: dict[tuple[str, str], pc.CompiledCircuit] = {}


def _case(name: str, every: int = 1) -> Case:
    if (name, every) not in _cases:
        circuit = CIRCUITS[name]() if every == 1 else _case(name).circuit
        _cases[name, every] = Case(name, circuit, every)
    return _cases[name, every]


@pytest.fixture(params=list(OPTIONS))
def options(request: pytest.FixtureRequest) -> str:
    """One way to compile after the other."""
    name: str = request.param
    return name


@pytest.fixture(params=list(CIRCUITS))
def cell(request: pytest.FixtureRequest, options: str) -> Cell:
    """Every circuit under every way to compile it; one row at a time takes long, and gets fewer rows."""
    chosen = {"dtype": torch.float64, **OPTIONS[options]}
    case = _case(request.param, 3 if "memory" in chosen else 1)
    key = (case.name, options)
    if key not in _models:
        _models[key] = case.circuit.compile(**chosen)
    return Cell(case, _models[key], 1e-4 if chosen["dtype"] == torch.float32 else 1e-9)


@pytest.fixture(scope="session")
def named_case() -> Callable[[str], Case]:
    """A circuit of the table by its name."""
    return _case
