"""Tractability by counting: tensor elements touched per query are at most a constant times edges × rows.

What is counted are the elements that every operation reads and writes, not time. Views touch nothing; of what is looked
up in a tensor, only what is looked up counts. Models are compiled anew, so that nothing is ready from an earlier query.
"""

import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

import pcircuits as pc
from pcircuits.program.layers import recursion
from pcircuits.testing import Oracle
from pcircuits.testing.drawing import Seeded, draw_circuit, draw_rows

LOOKUPS = {"index", "index_select", "gather", "embedding", "_embedding_bag", "take"}
ADDITIONS = {"index_add", "index_add_", "index_put", "index_put_", "_index_put_impl_", "scatter_add_"}


class Touched(TorchDispatchMode):
    """Counts the elements that operations read and write."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        aliases = [result.alias_info for result in func._schema.returns]
        if any(alias is not None and not alias.is_write for alias in aliases):
            return out  # a view
        name = func._schema.name.removeprefix("aten::")
        read = args[1:] if name in LOOKUPS | ADDITIONS else (args, kwargs)
        written = () if name in ADDITIONS else out
        self.elements += sum(t.numel() for t in tree_iter((read, written)) if isinstance(t, torch.Tensor))
        return out


def log_prob(model, x):
    return model.log_prob(x)


def mean(model, x):
    return model.given(x).mean()


def sample(model, x):
    return model.given(x).sample(1, torch.Generator().manual_seed(0))


def touched(query, circuit, x, **options):
    model = circuit.compile(dtype=torch.float64, **options)
    with torch.no_grad(), Touched() as count:
        query(model, x)
    return count.elements


def cost(circuit, rows):
    """edges × rows + units × rows + rows × variables + parameters."""
    s = circuit.summary()
    return (s.edges + s.units + s.variables) * rows + s.parameters


def formulas(query, circuit):
    """What the means of leaf units touch by themselves, whatever the rows: some families integrate."""
    if query is not mean:
        return 0
    with Touched() as count:
        for array in circuit.inputs:
            nothing = torch.zeros((1, 1, array.family.size), dtype=torch.float64)
            values = {name: parameter.value.double() for name, parameter in array.parameters.items()}
            events = {name: spec.event_ndim for name, spec in array.family.parameters.items()}
            shapes = {name: value.shape[value.ndim - events[name] :] for name, value in values.items()}
            parameters = {name: value.expand(*array.shape, *shapes[name]) for name, value in values.items()}
            array.family.moment(1, nothing, nothing > 0, parameters)
    return count.elements


# Measured on these circuits: at most 45, 63 and 79, and 142 for a mean in chunks of one. Circuits without an edge are left
# out: what they touch is the formula of one leaf.
BOUNDS = {log_prob: 90, mean: 190, sample: 160}
queries = pytest.mark.parametrize("query", BOUNDS, ids=lambda query: query.__name__)


@queries
@pytest.mark.parametrize("options", [{}, {"rewrites": ()}, {"memory": 1}], ids=["rewritten", "plain", "chunks of one"])
def test_elements_are_at_most_a_constant_times_edges_and_rows(query, options):
    for index in range(10 if "memory" in options else 40):
        circuit = draw_circuit(Seeded(5, index))
        oracle = Oracle(circuit)
        x = draw_rows(oracle, 4 if "memory" in options else 32, np.random.default_rng(index))
        x = x[[oracle.log_value(oracle.row(row)) > -math.inf for row in x.tolist()]]
        if len(x) and circuit.summary().edges:
            most = BOUNDS[query] * cost(circuit, len(x)) + 2 * formulas(query, circuit)
            assert touched(query, circuit, x, **options) <= most, index


def mixture(size):
    """A mixture of `size` products over 8 variables."""
    g = torch.Generator().manual_seed(0)
    loc = torch.randn(8, size, generator=g, dtype=torch.float64)
    return pc.Circuit(pc.Normal(range(8), loc, 1.0).prod().sum(torch.full((size,), 1 / size, dtype=torch.float64)))


def chain(size):
    """A hidden Markov model of `size` steps."""
    weights = torch.full((3, 3), 1 / 3, dtype=torch.float64)
    emissions = [pc.Categorical(t, [[0.2, 0.8], [0.5, 0.5], [0.7, 0.3]]) for t in range(size)]
    hidden = emissions[-1]
    for emission in emissions[-2::-1]:
        hidden = emission * hidden.sum(weights)
    return pc.Circuit(hidden.sum([0.2, 0.3, 0.5]))


def tree(size):
    """A balanced tree over `size` variables."""
    layer = pc.Bernoulli(range(size), [[0.2, 0.5, 0.9]] * size)
    while layer.regions > 1:
        weights = torch.full((layer.regions, 3, 3), 1 / 3, dtype=torch.float64)
        layer = layer.sum(weights).prod([(r, r + 1) for r in range(0, layer.regions, 2)])
    return pc.Circuit(layer.sum([0.2, 0.3, 0.5]))


def scalars(size):
    """Units one by one: `size` products of shared leaves under one sum."""
    leaves = {(v, s): pc.Bernoulli(v, 0.1 + 0.2 * s) for v in range(6) for s in range(4)}
    total = 0.0
    for n in range(size):
        unit = leaves[0, n % 4]
        for v in range(1, 6):
            unit = unit * leaves[v, (n // 4**v + n) % 4]
        total = (1 / size) * unit + total if n else (1 / size) * unit
    return pc.Circuit(total)


def slope(sizes, counts):
    """The exponent of a power law fitted by least squares on logs."""
    return np.polyfit(np.log(sizes), np.log(counts), 1)[0]


@pytest.fixture
def _in_turn(monkeypatch):
    """Chains go through their steps in turn, whatever their length: side by side has a larger constant."""
    monkeypatch.setattr(recursion, "MANY", 10**9)


@queries
@pytest.mark.usefixtures("_in_turn")
@pytest.mark.parametrize(
    ("make", "sizes"),
    [(mixture, (256, 1024, 4096)), (chain, (16, 32, 64)), (tree, (64, 256, 1024)), (scalars, (64, 128, 256))],
    ids=["mixture", "chain", "tree", "scalars"],
)
def test_cost_is_linear_in_size(query, make, sizes):
    counts = []
    for size in sizes:
        circuit = make(size)
        x = torch.full((16, len(circuit.variables)), torch.nan, dtype=torch.float64)
        x[:, ::2] = 1.0
        counts.append(touched(query, circuit, x))
    assert slope(sizes, counts) <= 1.05, counts


@pytest.mark.parametrize("query", [log_prob, mean])
def test_steps_side_by_side_are_linear_in_their_number(query, monkeypatch):
    """But for the log √n rounds in which blocks are joined."""
    monkeypatch.setattr(recursion, "MANY", 4)
    sizes, counts = (64, 256, 1024), []
    for size in sizes:
        x = torch.full((1, size), torch.nan, dtype=torch.float64)
        x[:, ::2] = 1.0
        counts.append(touched(query, chain(size), x))
    assert slope(sizes, counts) <= 1.1, counts


@queries
@pytest.mark.parametrize("make", [mixture, chain, tree, scalars])
def test_cost_is_linear_in_rows(query, make):
    circuit, sizes, counts = make(64), (64, 256, 1024), []
    for rows in sizes:
        x = torch.full((rows, len(circuit.variables)), torch.nan, dtype=torch.float64)
        x[:, ::2] = 1.0
        counts.append(touched(query, circuit, x))
    assert slope(sizes, counts) <= 1.05, counts


def test_a_query_that_compares_all_rows_with_each_other_is_not_linear():
    circuit, sizes = chain(4), (64, 512, 4096)

    def pairs(model, x):
        return model.log_prob(x)[:, None] + model.log_prob(x)

    counts = [touched(pairs, circuit, torch.ones((rows, 4), dtype=torch.float64)) for rows in sizes]
    assert slope(sizes, counts) > 1.2


def test_the_counter_counts_what_is_read_and_written():
    a, b = torch.zeros(4, 5), torch.zeros(5, 6)
    with Touched() as count:
        a @ b
    assert count.elements == 20 + 30 + 24
    with Touched() as count:
        a[1:].transpose(0, 1).view_as(a[1:].transpose(0, 1))
    assert count.elements == 0
    with Touched() as count:
        a.index_select(0, torch.zeros(1, dtype=torch.int64).clone())
    assert count.elements == 1 + 2 + 1 + 5  # zeros; the index copied; the index read; one row written
