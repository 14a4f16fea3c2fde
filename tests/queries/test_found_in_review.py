"""Each of these gave a wrong answer once."""

import copy
import math

import numpy as np
import pytest
import torch

import pcircuits as pc


def test_weight_decay_leaves_structural_zeros_alone():
    circuit = pc.Circuit(pc.Normal("x", [0.0, 1.0], 1.0).sum(pc.Parameter([1.0, 0.0], pc.simplex)))
    model = circuit.compile(dtype=torch.float64)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        (-model.log_prob(torch.tensor([[1.0]])).sum()).backward()
        optimizer.step()
    assert math.isfinite(model.log_prob({"x": 1.0}).item())
    assert model.to_circuit().root.weights.value.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("leaf", "x", "wanted"),
    [
        (pc.Bernoulli("a", 0.999999), 0, math.log1p(-0.999999)),
        (pc.Bernoulli("a", 1 - 1e-12), 0, math.log(1 - (1 - 1e-12))),
        (pc.Categorical("a", [1.0, 1e-50]), 1, math.log(1e-50)),
    ],
)
def test_float32_keeps_small_probabilities(leaf, x, wanted):
    model = pc.Circuit(leaf).compile(dtype=torch.float32)
    found = model.log_prob({"a": x})
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(wanted, rel=1e-4)


def test_copies_answer_everything():
    circuit = pc.Circuit(0.4 * pc.Indicator("a", 0) + 0.6 * pc.Indicator("a", 1))
    assert copy.deepcopy(circuit) is circuit
    twin = copy.deepcopy(circuit.compile())
    assert twin.map().assignment.tolist() == [1.0]
    assert twin.posterior(circuit.root).tolist() == pytest.approx([0.4, 0.6])


def test_a_callers_tensor_is_not_the_circuits():
    weights = torch.tensor([0.5, 0.5])
    circuit = pc.Circuit(pc.Normal("x", [0.0, 1.0], 1.0).sum(weights))
    weights[0] = -3.0
    assert circuit.root.weights.value.tolist() == [0.5, 0.5]


@pytest.mark.errors
def test_states_have_no_gradient():
    model = pc.Circuit(pc.DiscretizedNormal(range(3), [[0.2, 0.6]] * 3, 0.1, levels=4).prod().sum([0.5, 0.5])).compile()
    x = torch.tensor([[0.0, 1.0, 3.0]], requires_grad=True)
    with pytest.raises(pc.EvidenceError, match=r"x\.detach"):
        model.log_prob(x)
    model.log_prob(x.detach()).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("rewrites", [None, ()])
def test_the_gradient_of_a_mixed_row_is_that_of_its_densities(rewrites):
    rain = [pc.Indicator("rain", 0), pc.Indicator("rain", 1)]
    circuit = pc.Circuit(0.3 * (rain[0] * pc.Normal("x", 0.0, 1.0)) + 0.7 * (rain[1] * pc.Normal("x", 2.0, 0.5)))
    x = torch.tensor([[0.0, 0.5], [1.0, 0.5]], dtype=torch.float64, requires_grad=True)
    (got,) = torch.autograd.grad(circuit.compile(dtype=torch.float64, rewrites=rewrites).log_prob(x).sum(), x)
    torch.testing.assert_close(got, torch.tensor([[0.0, -0.5], [0.0, 6.0]], dtype=torch.float64))


@pytest.mark.parametrize("rewrites", [None, ()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_densities_have_gradients_with_respect_to_data(rewrites, dtype):
    loc = torch.tensor([[0.0, 1.0], [2.0, 3.0]], dtype=torch.float64)
    circuit = pc.Circuit(pc.mixture([0.3, 0.7], pc.Normal(["a", "b"], loc, 1.0).prod()))
    x = torch.randn(300, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64).log()
    direct = (weights + torch.distributions.Normal(loc, 1.0).log_prob(x.unsqueeze(-1)).sum(1)).logsumexp(1)
    (want,) = torch.autograd.grad(direct.sum(), x)
    given = x.detach().to(dtype).requires_grad_()
    frozen = circuit.compile(dtype=dtype, rewrites=rewrites, memory=2**20).requires_grad_(False)
    (got,) = torch.autograd.grad(frozen.log_prob(given).sum(), given)
    torch.testing.assert_close(got.double(), want, atol=1e-4 if dtype == torch.float32 else 1e-12, rtol=1e-5)


def test_a_round_trip_of_dtypes_is_seen():
    model = pc.Circuit(pc.Normal("x", 1 / 3, 1.0)).compile(dtype=torch.float64)
    with torch.no_grad():
        model.log_prob({"x": 1.0})
        model.float()
        model.double()
        again = model.log_prob({"x": 1.0}).item()
    assert again == pytest.approx(model.log_prob({"x": 1.0}).item(), abs=1e-15)


@pytest.mark.errors
def test_half_precision_is_refused():
    with pytest.raises(pc.CircuitError, match=r"float32 or torch\.float64"):
        pc.Circuit(pc.Normal("x", 0.0, 1.0)).compile(dtype=torch.float16)


def test_conditioning_asks_a_source_for_some_columns_at_a_time():
    class Wide(torch.nn.Module):
        asked = 0

        def parameters_for(self, columns):
            assert not torch.is_grad_enabled()
            Wide.asked = max(Wide.asked, len(columns))
            loc = columns.double().expand(2, -1) / 1000
            return {"loc": loc, "scale": torch.ones_like(loc)}

    units = pc.inputs(pc.families.Normal(), ["a", "b"], pc.Sourced(Wide(), 2, 3000))
    circuit = pc.Circuit(units.prod().sum(pc.Parameter([1 / 3000] * 3000, pc.simplex)))
    conditioned = pc.condition(circuit, {"a": 2.0})
    assert Wide.asked == 1024
    assert conditioned.root.weights.value.argmax().item() == 2000


def test_a_row_far_out_leaves_the_gradients_of_the_others_as_they_are():
    """Its square overflows in float32, where the natural parameters meet it in a matrix product."""
    circuit = pc.Circuit(pc.mixture([0.5, 0.5], pc.Normal(range(2), [[0.0, 1.0], [0.0, 2.0]], 1.0).prod()))
    x = torch.tensor([[1e20, 0.0], [0.3, 0.1]])
    gradients = []
    for data in (x, x[1:]):
        model = circuit.compile(dtype=torch.float32)
        value = model.log_prob(data)
        assert value[-1].item() == pytest.approx(circuit.compile(torch.float64).log_prob(x)[1].item(), rel=1e-6)
        value[-1].backward()
        gradients.append([p.grad for p in model.parameters()])
    for both, alone in zip(*gradients, strict=True):
        torch.testing.assert_close(both, alone)
    assert model.log_prob(x)[0] == -torch.inf


def test_a_value_far_out_has_its_density_where_the_scale_is_as_large():
    circuit = pc.Circuit(pc.mixture([0.5, 0.5], pc.Normal(range(2), [[0.0, 1.0], [0.0, 2.0]], 1e20).prod()))
    narrow, wide = (
        circuit.compile(dtype=t).log_prob(torch.tensor([[1e20, 0.0]])) for t in (torch.float32, torch.float64)
    )
    assert narrow.item() == pytest.approx(wide.item(), rel=1e-5)


@pytest.mark.errors
def test_a_number_that_the_dtype_does_not_hold():
    model = pc.Circuit(pc.Normal("x", 0.0, 1.0)).compile(dtype=torch.float32)
    with pytest.raises(pc.EvidenceError, match=r"row 1: 'x' is 1e\+39, which torch.float32 does not hold"):
        model.log_prob(torch.tensor([[0.0], [1e39]], dtype=torch.float64))


@pytest.mark.errors
def test_what_was_given_before_the_model_moved_says_so():
    model = pc.Circuit(pc.mixture([0.5, 0.5], pc.Normal(["x", "y"], [[0.0, 1.0]], 1.0).prod())).compile()
    known = model.given({"x": 1.0})
    model.double()
    with pytest.raises(pc.CircuitError, match=r"in torch\.float32 on cpu when .* is now in torch\.float64"):
        known.mean()
    assert model.given({"x": 1.0}).mean().dtype == torch.float64


@pytest.mark.errors
@pytest.mark.parametrize("memory", [1e9, "1GB", 0])
def test_a_bound_that_is_no_number_of_bytes(memory):
    with pytest.raises(pc.CircuitError, match="memory, a number of bytes"):
        pc.Circuit(pc.Normal("x", 0.0, 1.0)).compile(memory=memory)


@pytest.mark.errors
def test_orders_of_moments_are_any_integers():
    model = pc.Circuit(pc.Normal("x", 2.0, 1.0)).compile(dtype=torch.float64)
    assert model.moment(np.int64(2)).item() == pytest.approx(5.0)


def test_expectations_that_are_infinite_for_some_states():
    """1/0 counts where 0 is possible, and only there."""
    probs = [[[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]] * 2
    model = pc.Circuit(pc.mixture([0.5, 0.5], pc.Categorical(["a", "b"], probs).prod())).compile(dtype=torch.float64)
    assert model.expectation(lambda x: 1 / x).tolist() == [math.inf, math.inf]
    assert model.given({"a": 2}).expectation(lambda x: 1 / x).tolist() == [[0.5, 0.75]]
    assert model.given({"a": 0}).expectation(lambda x: -1 / x).tolist() == [[-math.inf, -math.inf]]
