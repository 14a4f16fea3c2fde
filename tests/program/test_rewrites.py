"""Rewrites and rewordings of a circuit leave every answer unchanged; and rewrites do what they are for."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pcircuits as pc
from pcircuits.circuit.circuit import fold as fold_over
from pcircuits.circuit.units import Constant, Input, Mix, Outer, Product, Sum, Wiring
from pcircuits.parameters import Parameter, Sourced
from pcircuits.program.lower import lower
from pcircuits.program.rewrites import DEFAULT, REWRITES
from pcircuits.testing.strategies import circuits, rows


def compiled(circuit, **options):
    return circuit.compile(dtype=torch.float64, **options)


def answers(model, x):
    """Some of everything: upward, downward and choosing passes, of the first root."""
    asked = model.root(0)
    values = asked.log_prob(x)
    known = asked.given(x[values > -math.inf])
    found = known.map(exact=False)
    return [values, known.log_probability(-1.0, 1.0), known.mean(), known.variance(), found.log_prob, found.upper_bound]


def agree(one, other):
    """Within 1e-9 of the size of what an answer was computed from."""
    size = 1.0 + one[0][one[0] > -math.inf].abs().max().item() if (one[0] > -math.inf).any() else 1.0
    for a, b in zip(one, other, strict=True):
        both = a.isfinite()
        assert torch.equal(both, b.isfinite())
        assert torch.equal(a[~both], b[~both])
        assert bool(((a - b)[both].abs() <= 1e-9 * size * (1.0 + a[both].abs())).all())


@settings(max_examples=25, deadline=None)
@given(st.data(), circuits(max_roots=2), st.sets(st.sampled_from(DEFAULT)), st.sampled_from([None, 1, 2000]))
def test_every_set_of_rewrites_gives_the_same_answers(data, circuit, rewrites, memory):
    x = data.draw(rows(circuit, max_size=5))
    agree(
        answers(compiled(circuit, rewrites=()), x)[:3],
        answers(compiled(circuit, rewrites=rewrites, memory=memory), x)[:3],
    )


def rebuilt(circuit, name, order):
    """The same circuit with other labels, and the regions of every array in another order, wired back where it is read."""

    def region_order(array):
        return order.permutation(array.regions)

    def some(parameter, regions, lead, picked):
        if not lead or parameter.shape[0] != regions:
            return parameter
        return Parameter(parameter.value[picked], parameter.constraint, parameter.trainable, parameter.name)

    def combine(array, children):
        picked = region_order(array)
        back = np.argsort(picked)
        if isinstance(array, Input):
            assert not isinstance(array.parameters, Sourced)
            labels = [tuple(name[label] for label in array.variables[r]) for r in picked]
            specs = array.family.parameters
            parameters = {
                n: some(p, array.regions, len(p.shape) > specs[n].event_ndim, torch.as_tensor(picked))
                for n, p in array.parameters.items()
            }
            made = Input(array.family, labels, parameters)
        elif isinstance(array, Sum):
            weights = some(array.weights, array.regions, len(array.weights.shape) == 3, torch.as_tensor(picked))
            made = Sum(children[0][picked], weights)
        elif isinstance(array, Mix):
            weights = some(array.weights, array.regions, len(array.weights.shape) == 3, torch.as_tensor(picked))
            made = Mix([c if c.shape == (1, 1) else c[picked] for c in children], weights)
        elif isinstance(array, Outer):
            made = Outer([c[picked] for c in children])
        elif isinstance(array, Product) and array.groups is not None:
            made = children[0].prod([array.groups[r] for r in picked])
        elif isinstance(array, Product):
            made = Product([c if c.shape == (1, 1) else c[picked] for c in children])
        elif isinstance(array, Wiring):
            return Wiring(children, array.child, array.region, array.column)
        else:
            assert isinstance(array, Constant)
            return array
        return made[back] if array.regions > 1 else made

    made = fold_over(circuit.arrays, combine)
    return pc.Circuit(made[id(circuit.root)], [name[label] for label in circuit.variables])


@settings(max_examples=25, deadline=None)
@given(st.data(), circuits(max_roots=2), st.integers(0, 10))
def test_names_and_the_order_of_regions_do_not_matter(data, circuit, seed):
    names = {label: f"renamed {number}" for number, label in enumerate(circuit.variables)}
    other = rebuilt(circuit, names, np.random.default_rng(seed))
    x = data.draw(rows(circuit, max_size=4))
    agree(answers(compiled(circuit), x), answers(compiled(other), x))


@settings(max_examples=15, deadline=None)
@given(st.data(), circuits())
def test_the_order_of_columns_does_not_matter(data, circuit):
    order = data.draw(st.permutations(range(len(circuit.variables))))
    other = pc.Circuit(circuit.root, [circuit.variables[i] for i in order])
    x = data.draw(rows(circuit))
    agree(answers(compiled(circuit), x)[:1], answers(compiled(other), x[:, order])[:1])
    assert torch.allclose(compiled(circuit).mean()[list(order)], compiled(other).mean(), rtol=1e-9, atol=1e-9)


def scalar_circuit(variables):
    """One product after the other, unit by unit."""
    terms = []
    for k in range(4):
        product = pc.Normal(0, float(k), 1.0)
        for v in range(1, variables):
            product = product * pc.Normal(v, float(k - v), 1.0)
        terms.append((0.25, product))
    total = terms[0][0] * terms[0][1]
    for weight, product in terms[1:]:
        total = total + weight * product
    return pc.Circuit(total)


def test_fold_makes_few_layers_of_many_units():
    circuit = scalar_circuit(6)
    assert len(circuit.arrays) > 40
    assert len(compiled(circuit, rewrites=()).program.layers) == len(circuit.arrays)
    assert len(compiled(circuit, rewrites=("fold",)).program.layers) == 1 + 5 + 1
    wider = pc.Circuit(0.5 * scalar_circuit(6).root + 0.5 * scalar_circuit(6).root)
    assert len(compiled(wider, rewrites=("fold",)).program.layers) == 1 + 5 + 2


def test_fuse_makes_one_layer_of_a_mixture():
    pixels = pc.Normal(range(5), torch.zeros(5, 3), 1.0)
    circuit = pc.Circuit(pixels.prod().sum([0.2, 0.3, 0.5]))
    assert [type(s).__name__ for s in compiled(circuit).program.layers] == ["MixtureLayer"]
    assert [type(s).__name__ for s in compiled(circuit, rewrites=()).program.layers] == [
        "InputLayer",
        "ProductLayer",
        "SumLayer",
    ]


def test_what_is_read_twice_is_not_fused():
    pixels = pc.Bernoulli(range(3), torch.full((3, 2), 0.25))
    product = pixels.prod()
    circuit = pc.Circuit(0.5 * product.sum([0.5, 0.5]) + 0.5 * (pixels[:1].prod() * pixels[1:].prod()).sum([0.1, 0.9]))
    model = compiled(circuit)
    assert model.log_prob(torch.zeros(1, 3)).item() == pytest.approx(3 * math.log(0.75))


def test_what_sums_read_beside_products_is_not_fused():
    """Leaves under a product and under a sum that reads them alone: the product may not take them away."""
    leaves = pc.Bernoulli(["a", "b"], torch.tensor([[0.1, 0.7], [0.6, 0.2]], dtype=torch.float64))
    apart = leaves[:1].sum([0.3, 0.7]) * leaves[1:].sum([0.9, 0.1])
    circuit = pc.Circuit(0.25 * leaves.prod().sum([0.5, 0.5]) + 0.75 * apart)
    value = compiled(circuit).log_prob(torch.ones(1, 2)).item()
    together = 0.5 * (0.1 * 0.6 + 0.7 * 0.2)
    want = 0.25 * together + 0.75 * (0.3 * 0.1 + 0.7 * 0.7) * (0.9 * 0.6 + 0.1 * 0.2)
    assert value == pytest.approx(math.log(want), rel=1e-12)


def test_layout_makes_slices_of_reads():
    leaves = pc.Categorical(range(8), torch.full((8, 2, 3), 1 / 3, dtype=torch.float64))
    shuffled = leaves.sum([[0.5, 0.5], [0.1, 0.9]]).prod([[5, 2], [7, 0], [1, 3], [6, 4]])
    circuit = pc.Circuit(shuffled.prod([[3, 1, 0, 2]]).sum([0.5, 0.5]))
    plain, laid = (compiled(circuit, rewrites=r) for r in ((), ("layout",)))

    def slices(model):
        return [s for layer in model.program.layers for gather in layer.gathers() for s in gather.spans]

    assert None in slices(plain)
    assert None not in slices(laid)
    assert laid.log_prob(torch.zeros(1, 8)).item() == pytest.approx(8 * math.log(1 / 3))


@settings(max_examples=20, deadline=None)
@given(circuits(max_roots=2))
def test_rewrites_keep_the_number_of_rows_that_are_read(circuit):
    """No rewrite drops a unit that something needs, or reads one before it is computed."""
    plan = lower(circuit)
    for _, rewrite in REWRITES:
        plan = rewrite(plan)
        first = 0
        for node in plan.nodes:
            assert node.first == first
            for edges in node.edges():
                assert edges.rows.min() >= 0
                assert edges.rows.max() < node.first
            first += node.count
        assert plan.root.rows.min() >= 0
        assert plan.root.rows.max() < first


def test_more_columns_than_a_table_holds():
    generator = torch.Generator().manual_seed(0)
    loc, scale = torch.rand(2, 3, 150, generator=generator, dtype=torch.float64) + 0.1
    weights = torch.rand(150, generator=generator, dtype=torch.float64)
    circuit = pc.Circuit(pc.DiscretizedLogistic(range(3), loc, scale, levels=5, uniform=0.1).prod().sum(weights))
    x = torch.cartesian_prod(*[torch.tensor([0.0, 2, 4, math.nan]).double()] * 3)
    agree(answers(compiled(circuit, rewrites=()), x), answers(compiled(circuit), x))
    agree(answers(compiled(circuit, rewrites=()), x), answers(compiled(circuit, memory=300_000), x))


def test_rows_that_differ_in_few_places():
    """Data as images are: nearly everywhere the most frequent value, so that only differences are looked up."""
    generator = torch.Generator().manual_seed(1)
    probs = torch.rand(12, 7, 4, generator=generator, dtype=torch.float64)
    circuit = pc.Circuit(
        pc.Categorical(range(12), probs / probs.sum(-1, keepdim=True))
        .prod([range(0, 12, 2), range(1, 12, 2)])
        .prod()
        .sum([1.0] * 7)
    )
    x = torch.ones(40, 12, dtype=torch.float64)
    x[torch.rand(40, 12, generator=generator) < 0.15] = 3.0
    x[torch.rand(40, 12, generator=generator) < 0.1] = math.nan
    x[7], x[8] = 1.0, math.nan
    agree(answers(compiled(circuit, rewrites=()), x), answers(compiled(circuit), x))
    values = []
    for rewrites in ((), None):
        model = compiled(circuit, rewrites=rewrites)
        model.log_prob(x).sum().backward()
        values.append(torch.cat([p.grad.flatten() for p in model.parameters()]).sort().values)
    assert torch.allclose(*values, rtol=1e-9, atol=1e-9)
