"""Sums over one product of leaves, which are merged into one step: every reader finds its own."""

import pytest
import torch

import pcircuits as pc
from pcircuits.testing import Agreement
from pcircuits.testing.oracle import Oracle

STATES = torch.tensor([[[0.9, 0.1], [0.2, 0.8]]] * 4, dtype=torch.float64)


def two_products(groups=((0, 1), (2, 3))):
    return pc.Categorical(range(4), STATES).prod([list(group) for group in groups])


def reordered_sums():
    products = two_products()
    weights = torch.tensor([[[0.5, 0.5], [0.3, 0.7]], [[0.1, 0.9], [0.6, 0.4]]], dtype=torch.float64)
    sums = pc.concat([products[1], products[0]], axis="regions").sum(weights)
    return pc.Circuit(sums[0].outer(sums[1]).sum([0.1, 0.2, 0.3, 0.4])), sums


def first_of_merged_sums():
    product = pc.Categorical(range(4), STATES).prod()
    weights = torch.tensor([[[0.5, 0.5], [0.3, 0.7]], [[0.1, 0.9], [0.6, 0.4]]], dtype=torch.float64)
    sums = pc.concat([product, product], axis="regions").sum(weights)
    return pc.Circuit(0.5 * sums[0].sum([0.3, 0.7]) + 0.5 * sums[1, 0]), sums


def roots_of_one_product():
    product = pc.Categorical(range(4), STATES).prod()
    sums = [product.sum([0.25, 0.75]), product.sum([0.5, 0.5]), product.sum([1.0, 0.0])]
    return pc.Circuit(sums), sums[1]


@pytest.mark.parametrize("make", [reordered_sums, first_of_merged_sums, roots_of_one_product])
@pytest.mark.parametrize("rewrites", [None, ("fuse",), ()])
def test_every_reader_finds_its_sum(make, rewrites):
    circuit, sums = make()
    model, oracle = circuit.compile(dtype=torch.float64, rewrites=rewrites), Oracle(circuit)
    agreement = Agreement(model, oracle)
    agreement.log_prob(torch.tensor([[0.0, 0.0, 1.0, 1.0], [1.0, torch.nan, 0.0, 1.0]], dtype=torch.float64))
    agreement.mean({0: 1.0, 3: 0.0})
    plain = circuit.compile(dtype=torch.float64, rewrites=()).root(0).given({1: 1.0})
    merged = model.root(0).given({1: 1.0})
    torch.testing.assert_close(merged.posterior(sums), plain.posterior(sums), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rewrites", [None, ()])
def test_a_deterministic_root_beside_one_that_is_not(rewrites):
    gate = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.9, 0.1], [0.2, 0.8]]], dtype=torch.float64)
    product = pc.Categorical(range(2), gate).prod()
    soft = pc.Categorical(range(2), STATES[:2]).prod()
    circuit = pc.Circuit([product.sum([0.5, 0.5]), product.sum([0.3, 0.7]), soft.sum([0.5, 0.5])])
    found = [circuit.compile(dtype=torch.float64, rewrites=rewrites).root(k).map(exact=False) for k in range(3)]
    assert [bool(f.exact) for f in found] == [True, True, False]


def test_a_row_of_zero_weights_beside_others_loses_nothing():
    leaves = pc.Normal(range(4), torch.tensor([[0.0, 20.0]] * 4), 1.0)
    weights = torch.tensor([[[0.0, 1.0], [0.5, 0.5]], [[0.0, 0.0], [1.0, 0.0]]] * 2)
    circuit = pc.Circuit(leaves.sum(weights).prod().sum([1.0, 1e-12]))
    x = dict.fromkeys(range(4), 0.0)
    assert circuit.compile().log_prob(x).item() == pytest.approx(Oracle(circuit).log_value(x), rel=1e-4)


@pytest.mark.parametrize("columns", [40, 4000])
@pytest.mark.parametrize("layered", [False, True])
def test_posteriors_of_rows_far_out_add_up_to_one(columns, layered):
    leaves = pc.Normal(range(columns), torch.zeros(columns, 2), 0.1)
    product = leaves.prod() * pc.Constant(1.0) if layered else leaves.prod()
    circuit = pc.Circuit(product.sum([0.5, 0.5]))
    model = circuit.compile(rewrites=() if layered else None)
    shares = model.given(torch.full((3, columns), 0.7)).posterior(circuit.sums[0])
    assert torch.allclose(shares, torch.tensor(0.5), atol=1e-6)


def test_second_derivatives_of_every_kind_of_product():
    probs = torch.softmax(torch.linspace(-1, 1, 18, dtype=torch.float64).reshape(2, 3, 3), -1)
    for units in (pc.Categorical(range(2), probs), pc.Normal(range(2), probs[..., 0], 1.0)):
        circuit = pc.Circuit(units.prod().sum(pc.Parameter([0.2, 0.3, 0.5], pc.simplex)))
        model = circuit.compile(dtype=torch.float64)
        raws = list(model.parameters())
        x = torch.tensor([[0.0, 2.0], [1.0, torch.nan]], dtype=torch.float64)

        def value(*numbers, model=model, x=x):
            named = dict(zip([name for name, _ in model.named_parameters()], numbers, strict=True))
            return torch.func.functional_call(model, named, (x,))

        assert torch.autograd.gradcheck(value, raws)
        assert torch.autograd.gradgradcheck(value, raws)


def test_numbers_that_the_root_does_not_need_come_back_as_they_were():
    third = torch.full((3, 2), 1 / 3)
    circuit = pc.Circuit(pc.Normal(["a", "b", "c"], third, third)[:2].prod().sum([0.5, 0.5]))
    model = circuit.compile()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5)
    loc = model.to_circuit().inputs[0].parameters["loc"].value
    assert torch.equal(loc[2], third[2].to(loc))
    assert not torch.equal(loc[0], third[0].to(loc))
