"""Compiled circuits as modules: training, back to circuits, state dicts, devices and dtypes, ties, freezing, copies."""

import copy
import math

import pytest
import torch
from torch import nn

import pcircuits as pc
from pcircuits.circuit.units import Input
from pcircuits.parameters import Sourced
from pcircuits.testing import Oracle


def data(rows, columns, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def trained(model, x, steps=5):
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(steps):
        optimiser.zero_grad()
        (-model.log_prob(x).mean()).backward()
        optimiser.step()
    return model


class Shift(nn.Module):
    """A source with a parameter and a buffer."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.tensor([[0.0, 1.0, 2.0], [1.0, -1.0, 0.5]], dtype=torch.float64))
        self.register_buffer("scale", torch.ones(2, 3, dtype=torch.float64))

    def parameters_for(self, columns):
        return {"loc": self.loc[:, columns], "scale": self.scale[:, columns]}


def families():
    """Every family and constraint, simplices with zeros, free weights, arrays and scalars."""
    simplex = pc.Parameter(torch.tensor([0.5, 0.0, 0.5], dtype=torch.float64), pc.simplex)
    one = pc.Normal("x", [0.0, 1.0, 2.0], 1.0) * pc.Bernoulli("b", [0.0, 0.5, 1.0])
    two = pc.DiscretizedNormal("d", [0.2, 0.8, 0.5], 0.3, levels=4) * pc.Categorical(
        "c", [[0.0, 0.5, 0.5], [1, 0, 0], [0.3, 0.3, 0.4]]
    )
    both = one * two * pc.Constant(1.5)
    return pc.Circuit(0.3 * both.sum(simplex) + 0.9 * both[0, 2])


ROWS = torch.tensor(
    [[0.1, 1.0, 2.0, 1.0], [math.nan, 0.0, math.nan, 2.0], [-1.0, math.nan, 3.0, 0.0], [2.5, 1.0, 0.0, math.nan]],
    dtype=torch.float64,
)


def mixture(sourced=False, columns=2):
    pixels = (
        pc.inputs(pc.families.Normal(), range(columns), Sourced(Shift(), columns, 3))
        if sourced
        else pc.Normal(range(columns), data(columns, 3), 1.0)
    )
    return pc.Circuit(pc.mixture([0.2, 0.3, 0.5], pixels.prod()))


@pytest.mark.parametrize("rewrites", [None, ()])
def test_training_improves_and_comes_back_as_a_circuit(rewrites):
    circuit = families()
    model = circuit.compile(dtype=torch.float64, rewrites=rewrites)
    before = model.log_prob(ROWS).detach()
    trained(model, ROWS)
    after = model.log_prob(ROWS).detach()
    assert after.mean() > before.mean() + 0.1
    back = model.to_circuit()
    assert back.variables == circuit.variables
    assert torch.allclose(back.compile(dtype=torch.float64).log_prob(ROWS), after, rtol=1e-12, atol=1e-12)
    oracle = Oracle(back)
    want = torch.tensor([oracle.log_value(oracle.row(r)) for r in ROWS.tolist()], dtype=torch.float64)
    assert torch.allclose(after, want, rtol=1e-9, atol=1e-9)
    original = circuit.compile(dtype=torch.float64).log_prob(ROWS)
    assert torch.equal(original, before), "training changed the circuit that was compiled"


def test_what_is_not_trained_stays_the_identical_object():
    circuit = families()
    model = circuit.compile()
    back = model.to_circuit()
    assert list(back.parameters()) == list(circuit.parameters())
    trained(model, ROWS[:1])  # only rows that say nothing about some parameters
    kept = [old is new for old, new in zip(circuit.parameters(), model.to_circuit().parameters(), strict=True)]
    assert any(kept)
    assert not all(kept)
    state = next(p for a in circuit.inputs for name, p in a.parameters.items() if a.family.name == "Normal")
    assert state.constraint is pc.real


def test_zeros_and_ones_stay_structural():
    circuit = families()
    back = trained(circuit.compile(dtype=torch.float64), ROWS, steps=20).to_circuit()
    for old, new in zip(circuit.parameters(), back.parameters(), strict=True):
        assert torch.equal(old.value == 0, new.value == 0)
        if old.constraint is pc.unit_interval:
            assert torch.equal(old.value == 1, new.value == 1)
        assert bool(new.constraint.admits(new.value).all())
    simplices = [p.value for p in back.parameters() if p.constraint is pc.simplex]
    assert all(torch.allclose(p.sum(-1), torch.ones(()).double(), atol=1e-12) for p in simplices)
    assert len(simplices) == 2


def test_ties_stay_ties_and_the_frozen_do_not_move():
    shared = pc.Parameter(torch.tensor([[0.5]], dtype=torch.float64), pc.real)
    still = pc.Parameter(torch.tensor(1.25, dtype=torch.float64), pc.positive, trainable=False)
    weights = pc.Parameter(torch.tensor([0.25, 0.75], dtype=torch.float64), pc.simplex)
    one, two = pc.Normal("u", shared, still), pc.Normal("u", 2.0, 1.0)
    three, four = pc.Normal("v", shared, 0.5), pc.Normal("v", 1.0, still)
    circuit = pc.Circuit(pc.mixture(weights, [one, two]) * pc.mixture(weights, [three, four]))
    model = circuit.compile(dtype=torch.float64)
    assert sum(p.numel() for p in model.parameters()) == 1 + 2 + 2 + 2  # loc: shared, two others; scales; weights
    back = trained(model, data(8, 2)).to_circuit()
    units = {(a.variables[0][0], i): a for i, a in enumerate(back.inputs)}
    by_variable = {label: [a for (name, _), a in units.items() if name == label] for label in ("u", "v")}
    tied = by_variable["u"][0].parameters["loc"]
    assert any(a.parameters["loc"] is tied for a in by_variable["v"])
    assert tied.value.item() != 0.5
    assert back.sums[0].weights is back.sums[1].weights
    assert back.sums[0].weights is not weights
    frozen = [a.parameters["scale"] for a in back.inputs if not a.parameters["scale"].trainable]
    assert len(frozen) == 2
    assert all(p is still for p in frozen)


def test_a_tied_parameter_has_the_sum_of_its_gradients():
    shared = pc.Parameter(torch.tensor([[0.5]], dtype=torch.float64), pc.real)
    model = pc.Circuit(pc.Normal("u", shared, 1.0) * pc.Normal("v", shared, 2.0)).compile(dtype=torch.float64)
    model.log_prob(torch.tensor([[1.0, 3.0]])).sum().backward()
    loc = next(p for p in model.parameters() if p.numel() == 1)
    assert loc.grad.item() == pytest.approx((1.0 - 0.5) + (3.0 - 0.5) / 4)


def test_sources_are_trained_and_the_original_is_not_touched():
    circuit = mixture(sourced=True)
    source = circuit.inputs[0].parameters.source
    before = source.loc.detach().clone()
    model = trained(circuit.compile(dtype=torch.float64), data(8, 2))
    assert torch.equal(source.loc, before)
    back = model.to_circuit()
    made = back.inputs[0].parameters.source
    assert made is not source
    assert not torch.allclose(made.loc, before)
    assert torch.allclose(back.compile(dtype=torch.float64).log_prob(data(5, 2)), model.log_prob(data(5, 2)))
    assert any(p.shape == (2, 3) for p in model.parameters())
    trained(model, data(8, 2))
    assert not torch.equal(made.loc, model.program.source_of(source).loc), "the circuit that was made must not move"


def test_a_source_used_twice_is_one_source():
    shared = Sourced(Shift(), 2, 3)
    one = pc.inputs(pc.families.Normal(), ["a", "b"], shared).prod()
    two = pc.inputs(pc.families.Normal(), ["c", "d"], shared).prod()
    circuit = pc.Circuit((one * two).sum([0.2, 0.3, 0.5]))
    model = trained(circuit.compile(dtype=torch.float64), data(6, 4))
    assert sum(p.shape == (2, 3) for p in model.parameters()) == 1
    sources = [a.parameters.source for a in model.to_circuit().inputs]
    assert sources[0] is sources[1]


@pytest.mark.parametrize("sourced", [False, True])
def test_state_dicts(sourced):
    circuit = mixture(sourced)
    model, other = trained(circuit.compile(dtype=torch.float64), data(8, 2)), circuit.compile(dtype=torch.float64)
    x = data(5, 2)
    assert not torch.allclose(model.log_prob(x), other.log_prob(x))
    with torch.no_grad():
        other.log_prob(x)  # what is remembered of the old parameters must go
    missing, unexpected = other.load_state_dict(model.state_dict())
    assert not missing
    assert not unexpected
    with torch.no_grad():
        assert torch.equal(model.log_prob(x), other.log_prob(x))
        assert torch.equal(model.given({0: 0.5}).mean(), other.given({0: 0.5}).mean())
    names = list(model.state_dict())
    assert len(names) == len(set(names))
    assert sum(v.numel() for v in model.state_dict().values()) == 3 + 12  # nothing is stored twice


def test_dtypes_by_to():
    circuit = families()
    model = circuit.compile(dtype=torch.float64)
    want = model.log_prob(ROWS)
    assert model.to(torch.float32) is model
    got = model.log_prob(ROWS)
    assert got.dtype == torch.float32
    assert torch.allclose(got.double(), want, rtol=1e-4, atol=1e-4)
    assert model.given({"b": 1}).mean().dtype == torch.float32
    assert model.sample(2, torch.Generator().manual_seed(0)).dtype == torch.float32
    assert torch.allclose(model.to(torch.float64).log_prob(ROWS), want, rtol=1e-5, atol=1e-5)
    assert circuit.compile(dtype=torch.float32).log_prob(ROWS).dtype == torch.float32
    assert circuit.compile().log_prob(ROWS).dtype == torch.get_default_dtype()


def test_sourced_models_by_to():
    model = mixture(sourced=True).compile(dtype=torch.float32)
    assert model.log_prob(data(2, 2)).dtype == torch.float32
    assert model.to(torch.float64).log_prob(data(2, 2)).dtype == torch.float64


def test_the_meta_device_is_reached():
    """`to(device)` moves everything: nothing is left behind on the device where it was made."""
    model = mixture().compile(dtype=torch.float64).to("meta")
    tensors = [*model.parameters(), *model.buffers()]
    assert tensors
    assert {t.device.type for t in tensors} == {"meta"}


@pytest.mark.parametrize(
    "make", [families, mixture, lambda: mixture(sourced=True)], ids=["families", "stored", "sourced"]
)
def test_copies_are_models_of_their_own(make):
    circuit = make()
    model = circuit.compile(dtype=torch.float64)
    x = ROWS if circuit.variables[0] == "x" else data(4, 2)
    with torch.no_grad():
        model.log_prob(x)
    twin = copy.deepcopy(model)
    before = model.log_prob(x).detach()
    trained(twin, x)
    assert torch.equal(model.log_prob(x), before)
    after = twin.log_prob(x).detach()
    assert not torch.allclose(after, before)
    back = twin.to_circuit()
    assert torch.allclose(back.compile(dtype=torch.float64).log_prob(x), after)
    again = back.compile(dtype=torch.float64).given(x[:1])
    assert torch.allclose(twin.given(x[:1]).posterior(circuit.sums[-1]), again.posterior(back.sums[-1]))
    assert bool(twin.given(x[:1]).map(exact=False).upper_bound >= twin.given(x[:1]).map(exact=False).log_prob)


@pytest.mark.parametrize("name", ["loc", "scale"])
def test_evaluation_under_inference_mode_does_not_spoil_training(name):
    """What is remembered between calls is of use to autograd."""
    frozen = pc.Parameter(
        torch.tensor([[1.5, 0.5]], dtype=torch.float64), pc.positive if name == "scale" else pc.real, trainable=False
    )
    others = {"loc": [[0.0, 1.0]], "scale": [[1.0, 2.0]], name: frozen}
    for rewrites in (None, ()):
        units = pc.inputs(
            pc.families.Normal(), ["x"], {k: v if k == name else torch.tensor(v).double() for k, v in others.items()}
        )
        model = pc.Circuit(units.sum([0.5, 0.5])).compile(dtype=torch.float64, rewrites=rewrites)
        x = torch.tensor([[0.3], [1.0]], dtype=torch.float64)
        with torch.inference_mode():
            first = model.log_prob(x)
            model.given(x).mean()
        model.log_prob(x).sum().backward()
        assert torch.equal(model.log_prob(x).detach(), first)
        model.requires_grad_(False)
        with torch.inference_mode():
            model.log_prob(x)
        model.requires_grad_(True)
        model.log_prob(x).sum().backward()


def test_models_can_be_made_under_inference_mode():
    with torch.inference_mode():
        model = mixture().compile(dtype=torch.float64)
        first = model.log_prob(data(3, 2))
    assert torch.equal(model.log_prob(data(3, 2)).detach(), first)
    trained(model, data(4, 2))


def test_answers_follow_parameters_that_are_swapped_for_others():
    """As `torch.func.functional_call` and `p.data = ...` do: tensors come and go at the same addresses."""
    model = mixture().compile(dtype=torch.float64)
    x = data(3, 2)
    name, start = next((n, p.detach()) for n, p in model.named_parameters() if "loc" in n)
    answers = []
    with torch.no_grad():
        for shift in range(6):
            answers.append(torch.func.functional_call(model, {name: start + shift}, (x,)))
        for shift in range(6):
            dict(model.named_parameters())[name].data = start + shift
            dict(model.named_parameters())[name].data = start + shift
            assert torch.equal(model.log_prob(x), answers[shift])
    assert len({tuple(a.tolist()) for a in answers}) == 6


@pytest.mark.parametrize("optimiser", [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop])
def test_optimisers_are_noticed(optimiser):
    model = mixture().compile(dtype=torch.float64)
    x = data(4, 2)
    stepper = optimiser(model.parameters(), lr=0.1)
    seen = set()
    for _ in range(3):
        with torch.no_grad():
            seen.add(model.log_prob(x).sum().item())
            assert model.given({0: 0.0}).mean().isfinite().all()
        stepper.zero_grad()
        (-model.log_prob(x).mean()).backward()
        stepper.step()
    assert len(seen) == 3


def test_indicators_and_constants_come_back():
    circuit = pc.Circuit(0.5 * (pc.Indicator("a", 1) * pc.Constant(2.0)) + 0.25 * pc.Indicator("a", 0))
    back = trained(circuit.compile(dtype=torch.float64), torch.tensor([[1.0]])).to_circuit()
    states = sorted(a.parameters["state"].value.item() for a in back.inputs if isinstance(a, Input))
    assert states == [0.0, 1.0]
    assert any(a.parameters["state"] is b.parameters["state"] for a in back.inputs for b in circuit.inputs)


@pytest.mark.errors
def test_parameters_that_became_nan_are_named():
    model = mixture().compile(dtype=torch.float64)
    with torch.no_grad():
        next(p for n, p in model.named_parameters() if "loc" in n).fill_(math.nan)
    with pytest.raises(pc.ParameterError, match=r"loc of Normal.* has become NaN in training: lower the learning rate"):
        model.to_circuit()
