"""The flows of the way down equal autograd's, and gradients are right where values are missing, zero or impossible."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

import pcircuits as pc
from pcircuits.circuit.units import Input, Sum
from pcircuits.parameters import Sourced
from pcircuits.testing.strategies import circuits, evidence, rows


def compiled(circuit, **options):
    return circuit.compile(dtype=torch.float64, **options)


def expected_by_flows(conditional, circuit):
    """For each weight parameter (by id), the flow through every weight: what the posteriors of all its sums add up to."""
    total = {}
    for array in circuit.sums:
        shape = array.weights.shape
        flow = conditional.posterior(array)[0]
        flow = flow.reshape(array.regions, array.width, -1)
        if isinstance(array, Sum):
            flow = flow if len(shape) == 3 else flow.sum(0)
        flow = flow.sum((0, 1)) if len(shape) == 1 and flow.ndim == 3 else flow
        total[id(array.weights)] = total.get(id(array.weights), 0.0) + flow.reshape(shape)
    return total


@settings(max_examples=40, deadline=None)
@given(st.data(), circuits(), st.sampled_from([None, (), ("fuse",)]), st.sampled_from([None, 1]))
def test_explicit_flows_are_the_gradients_of_log_weights(raw_gradients, data, circuit, rewrites, memory):
    """∂ log p / ∂ log w is the flow through w; on a simplex, of which only ratios count, less w times the sum of flows."""
    model = compiled(circuit, rewrites=rewrites, memory=memory)
    known = data.draw(evidence(circuit, possible=True))
    value = model.log_prob(known)
    gradients = raw_gradients(model, value.sum())
    size = 1.0 + abs(value.item())
    expected = expected_by_flows(model.given(known), circuit)
    for parameter in circuit.parameters():
        flows = expected.get(id(parameter))
        if flows is None or id(parameter) not in gradients:
            continue
        if parameter.constraint is pc.simplex:
            weights = parameter.value.double()
            flows = flows - weights / weights.sum(-1, keepdim=True) * flows.sum(-1, keepdim=True)
        assert torch.allclose(gradients[id(parameter)], flows, rtol=1e-9 * size, atol=1e-9 * size)


@settings(max_examples=30, deadline=None)
@given(st.data(), circuits(max_roots=2))
def test_gradients_are_finite_and_impossible_rows_leave_the_others_intact(raw_gradients, data, circuit):
    model = compiled(circuit)
    x = data.draw(rows(circuit, min_size=2))
    values = model.log_prob(x)
    alive = values > -torch.inf
    every = raw_gradients(model, values.sum())
    possible = raw_gradients(model, torch.where(alive, model.log_prob(x), 0.0).sum())
    for key, gradient in every.items():
        assert gradient.isfinite().all()
        assert torch.equal(gradient, possible[key])
        assert alive.any() or not gradient.any()


@settings(max_examples=25, deadline=None)
@given(st.data(), circuits(max_variables=3, max_depth=3), st.sampled_from([None, ()]), st.sampled_from([None, 1]))
def test_gradcheck(data, circuit, rewrites, memory):
    """Against differences, in all numbers that are not structurally zero (or one)."""
    model = compiled(circuit, rewrites=rewrites, memory=memory)
    x = data.draw(rows(circuit, max_size=3))
    with torch.no_grad():
        values = model.log_prob(x)
    alive = (values > -2000) & (values < 2000)
    stored = [raw for raw in model.parameters() if raw.requires_grad and raw.detach().abs().max() < 20]
    if not stored or not alive.any():
        return
    value = model.log_prob(x)[alive].sum()
    gradients = torch.autograd.grad(value, stored, allow_unused=True)
    for raw, gradient in zip(stored, gradients, strict=True):
        direction = torch.cos(torch.arange(raw.numel())).reshape(raw.shape).to(raw)
        got = 0.0 if gradient is None else (gradient * direction).sum().item()
        ends = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                before = raw.clone()
                raw.add_(step * direction)
                ends.append(model.log_prob(x)[alive].sum().item())
                raw.copy_(before)
        want = (ends[0] - ends[1]) / 2e-5
        assert got == pytest.approx(want, rel=1e-4, abs=1e-4 + 1e-9 * abs(ends[0]) / 2e-5)


class Plain(torch.nn.Module):
    """A source whose parameters are its own numbers."""

    def __init__(self, loc, scale):
        super().__init__()
        self.loc, self.log_scale = torch.nn.Parameter(loc), torch.nn.Parameter(scale.log())

    def parameters_for(self, columns):
        return {"loc": self.loc[:, columns], "scale": self.log_scale[:, columns].exp()}


def wide_mixture(sourced):
    generator = torch.Generator().manual_seed(0)
    loc = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    scale = torch.rand(3, 5, generator=generator, dtype=torch.float64) + 0.2
    if sourced:
        units = pc.inputs(pc.families.Normal(), range(3), Sourced(Plain(loc, scale), 3, 5))
    else:
        units = pc.Normal(range(3), loc, scale)
    weights = torch.tensor([[0.0, 0.3, 0.2, 0.4, 0.1], [0.5, 0.5, 0.0, 0.0, 0.0]], dtype=torch.float64)
    return pc.Circuit(units.prod().sum(pc.Parameter(weights, pc.simplex)))


ROWS = torch.tensor(
    [[0.3, -1.0, 2.0], [math.nan, 0.1, math.nan], [math.nan] * 3, [0.0, 5.0, -3.0]], dtype=torch.float64
)


@pytest.mark.parametrize("sourced", [False, True])
def test_gradcheck_of_mixtures(sourced):
    """By torch's own check, with weights of zero and missing values."""
    model = compiled(wide_mixture(sourced), rewrites=("fold", "fuse", "layout"))
    names = [name for name, p in model.named_parameters() if p.isfinite().all()]
    assert len(names) == 3
    start = [dict(model.named_parameters())[name].detach().clone().requires_grad_() for name in names]

    def log_prob(*values):
        return torch.func.functional_call(model, dict(zip(names, values, strict=True)), (ROWS,))

    assert gradcheck(log_prob, start)


@pytest.mark.parametrize("sourced", [False, True])
@pytest.mark.parametrize("memory", [1, 100, 5000])
def test_gradients_in_chunks_are_the_gradients(sourced, memory):
    circuit = wide_mixture(sourced)
    whole, chunked = compiled(circuit, rewrites=()), compiled(circuit, memory=memory)
    pairs = []
    for model in (whole, chunked):
        model.log_prob(ROWS).sum().backward()
        pairs.append({name.split(".")[-1] + str(tuple(p.shape)): p.grad for name, p in model.named_parameters()})
    assert len(pairs[0]) >= 2
    for name, gradient in pairs[0].items():
        assert torch.allclose(pairs[1][name], gradient, rtol=1e-10, atol=1e-12), name


def test_tied_weights_have_the_sum_of_their_gradients(raw_gradients):
    """Of four sums two share a parameter, and all are one layer; against four parameters."""
    x = torch.tensor([[0.0, 1.0, 1.0, 0.0], [1.0, math.nan, 0.0, 1.0]], dtype=torch.float64)
    probs = torch.tensor([[0.1, 0.7], [0.6, 0.3], [0.2, 0.9], [0.5, 0.4]], dtype=torch.float64)
    leaves = pc.Bernoulli(range(4), probs)

    def circuit(weights):
        sums = [leaves[[region]].sum(w) for region, w in enumerate(weights)]
        return pc.Circuit(pc.concat(sums, axis="regions").prod().sum([0.5, 0.5]))

    def weights():
        return pc.Parameter(torch.tensor([[0.3, 0.7], [0.8, 0.2]], dtype=torch.float64), pc.simplex)

    shared, own = weights(), [weights() for _ in range(4)]
    for rewrites in (None, ()):
        found = []
        for parameters in ([shared, own[1], own[2], shared], own):
            model = compiled(circuit(parameters), rewrites=rewrites)
            gradients = raw_gradients(model, model.log_prob(x).sum())
            found.append([gradients[id(parameter)] for parameter in parameters])
        tied, apart = found
        assert torch.allclose(tied[0], apart[0] + apart[3], rtol=1e-12, atol=1e-15)
        assert torch.allclose(tied[1], apart[1], rtol=1e-12, atol=1e-15)


def test_gradients_of_conditionals():
    circuit = wide_mixture(False)
    model = compiled(circuit)
    conditional = model.root(0).given({0: 0.5}).log_prob({1: 0.2, 2: -0.1})
    joint, known = model.root(0).log_prob({0: 0.5, 1: 0.2, 2: -0.1}), model.root(0).log_prob({0: 0.5})
    raw = next(p for p in model.parameters())
    ours = torch.autograd.grad(conditional.sum(), raw)[0]
    assert torch.allclose(ours, torch.autograd.grad((joint - known).sum(), raw)[0])


def test_an_impossible_row_has_no_gradient():
    probs = torch.tensor([[0.0, 1.0], [0.5, 0.25]], dtype=torch.float64)
    model = compiled(pc.Circuit(pc.Bernoulli(["a", "b"], probs).prod().sum([1.0, 0.0])))
    value = model.log_prob(torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=torch.float64))
    assert value.tolist() == [-math.inf, pytest.approx(math.log(0.5))]
    value.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert not any(p.isnan().any() for p in model.parameters())


def test_impossible_rows_have_no_gradient_in_transforms():
    """Passes of `torch.func` are made of operations of torch: none of them may divide by a sum that is zero."""
    probs = torch.tensor([[0.0, 0.0], [0.5, 0.25]], dtype=torch.float64)
    model = compiled(pc.Circuit(pc.Bernoulli(["a", "b"], probs).sum([[0.5, 0.5], [0.2, 0.8]]).prod().sum([0.3, 0.7])))
    x = torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def value(parameters, rows):
        return torch.func.functional_call(model, parameters, (rows,)).sum()

    assert value(parameters, x[:1]).item() == -math.inf
    every, possible = (torch.func.grad(value)(parameters, rows) for rows in (x, x[1:]))
    for name, gradient in every.items():
        assert torch.allclose(gradient, possible[name], rtol=1e-12, atol=0), name


def test_leaf_flows_sum_to_one_for_every_variable():
    """Σ_u flow_u = 1 over the leaves of a variable: E[1] = 1."""
    for circuit in (wide_mixture(False), wide_mixture(True)):
        one = compiled(circuit).root(0).given(ROWS).expectation(torch.ones_like)
        assert torch.allclose(one, torch.ones_like(one), rtol=0, atol=1e-12)
    assert any(isinstance(a, Input) for a in circuit.arrays)
