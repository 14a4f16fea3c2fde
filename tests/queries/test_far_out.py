"""Values far out, as glitches and fill values are: what follows from them is right, or refused, and never wrong."""

import re

import pytest
import torch

import pcircuits as pc
from pcircuits.errors import EvidenceError

WEIGHTS = [0.9, 0.1]


def refused(model, evidence):
    """Whether the model says, of a row, that nothing can be said: no query then answers."""
    try:
        model.given(evidence).mean()
    except EvidenceError as error:
        named = str(error)
    else:
        return False
    assert re.search("the evidence in row 0 (lies so far out|has probability zero)", named), named
    with pytest.raises(EvidenceError):
        model.given(evidence).sample(2, torch.Generator().manual_seed(0))
    with pytest.raises(EvidenceError):
        model.given(evidence).variance()
    return True


def shared():
    """x says nothing about the component: its two leaves are the same."""
    return pc.Circuit((pc.Normal("x", [0.0, 0.0], 1.0) * pc.Normal("y", [0.0, 10.0], 1.0)).sum(WEIGHTS))


def outside():
    return pc.Circuit(pc.Normal("x", 0.0, 1.0) * pc.Normal("y", [0.0, 10.0], 1.0).sum(WEIGHTS))


def unit_by_unit():
    x = pc.Normal("x", 0.0, 1.0)
    return pc.Circuit(0.9 * (x * pc.Normal("y", 0.0, 1.0)) + 0.1 * (x * pc.Normal("y", 10.0, 1.0)))


@pytest.mark.parametrize("rewrites", [None, ()], ids=["rewritten", "plain"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("value", [5.0, 3e2, 1e4, 1e6, 1e9, 9.97e36])
@pytest.mark.parametrize("make", [shared, outside, unit_by_unit], ids=lambda make: make.__name__)
def test_a_value_that_says_nothing_leaves_the_rest_as_it_is(make, value, dtype, rewrites):
    circuit = make()
    model = circuit.compile(dtype=dtype, rewrites=rewrites)
    y = circuit.variables.index("y")
    last = next(a for a in reversed(circuit.sums) if a.shape == (1, 1))
    if refused(model, {"x": value}):
        assert value >= 1e9  # a log-likelihood of -10^18 has no digits below 100
        return
    known = model.given({"x": value})
    posterior = known.posterior(last)[0]
    mean, variance = known.mean()[0, y], known.variance()[0, y]
    above = known.probability({"y": 5.0}, torch.inf)
    samples = known.sample(4000, torch.Generator().manual_seed(0))[:, 0, y]
    density = known.log_prob({"y": 0.0})
    assert posterior.tolist() == pytest.approx(WEIGHTS, abs=1e-3)
    assert mean.item() == pytest.approx(1.0, abs=1e-2)
    assert variance.item() == pytest.approx(10.0, abs=1e-1)
    assert above.item() == pytest.approx(0.1, abs=1e-3)
    assert (samples > 5).double().mean().item() == pytest.approx(0.1, abs=0.03)
    assert density.item() == pytest.approx(-1.0243, abs=1e-3)


@pytest.mark.parametrize("rewrites", [None, ()], ids=["rewritten", "plain"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("value", [1e2, 1e3, 1e5, 1e7, 1e10, 1e16, 1e20])
def test_a_value_that_speaks_for_one_component_does_or_is_refused(value, dtype, rewrites):
    """Components at 0 and 1: the log odds at x are x − 1/2, so that all far out is of the second."""
    circuit = pc.Circuit((pc.Normal("x", [0.0, 1.0], 1.0) * pc.Normal("y", [0.0, 10.0], 1.0)).sum(WEIGHTS))
    model = circuit.compile(dtype=dtype, rewrites=rewrites)
    x = torch.tensor([[value, torch.nan], [0.0, torch.nan]], dtype=dtype)
    if refused(model, x):
        assert value >= 1e5
        return
    known = model.given(x)
    posterior, mean = known.posterior(circuit.root), known.mean()
    assert posterior[0].tolist() == pytest.approx([0.0, 1.0], abs=1e-9)
    assert mean[0, 1].item() == pytest.approx(10.0)
    odds = torch.tensor([-0.5]).exp().item() / 9
    assert posterior[1, 1].item() == pytest.approx(odds / (1 + odds), rel=1e-5)
