"""`map(exact=False).exact` says that no completion is more probable: it is never said where enumeration finds one."""

import itertools

import numpy as np
import pytest
import torch

import pcircuits as pc
from pcircuits.testing import Oracle
from pcircuits.testing.drawing import Seeded, draw_circuit


def best(circuit, known):
    """The largest log p of the completions, by enumeration."""
    oracle = Oracle(circuit)
    free = [v for v in circuit.variables if v not in known]
    rows = itertools.product(*(oracle.candidates(v) for v in free))
    return max(oracle.log_value({**known, **dict(zip(free, row, strict=True))}) for row in rows)


def close(gap):
    """Two components whose modes are nearly as probable, below a third variable that decides against the larger."""
    leaves = pc.Bernoulli(["a", "b"], torch.tensor([[0.9, 0.1], [0.5 + gap, 0.5]], dtype=torch.float64))
    return pc.Circuit(leaves.prod().sum([0.5, 0.5]))


@pytest.mark.parametrize("gap", [0.0, 1e-12, 1e-9, 1e-6, 1e-3, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_two_components_that_are_nearly_alike(gap, dtype):
    circuit = close(gap)
    model = circuit.compile(dtype=dtype)
    found = model.map(exact=False)
    assert found.upper_bound >= found.log_prob
    want = best(model.to_circuit(), {})
    if found.exact:
        assert Oracle(model.to_circuit()).log_value(Oracle(circuit).row(found.assignment.tolist())) >= want - 1e-12


@pytest.mark.parametrize("rewrites", [None, ()], ids=["rewritten", "plain"])
def test_two_small_components_that_agree_against_a_large_one(rewrites):
    """The largest component is at 1, and the two others together are more probable at 0."""
    circuit = pc.Circuit(pc.Bernoulli("a", [0.99, 0.01, 0.01]).sum([0.4, 0.3, 0.3]))
    found = circuit.compile(dtype=torch.float64, rewrites=rewrites).map(exact=False)
    value = Oracle(circuit).log_value({"a": found.assignment.item()})
    assert found.log_prob.item() == pytest.approx(value, rel=1e-12)
    assert found.upper_bound.item() >= best(circuit, {})
    assert not found.exact or value == pytest.approx(best(circuit, {}), rel=1e-12)


def test_random_circuits():
    """Drawn circuits over few states; where values are of the thousands, too, gaps of 1e-6 count."""
    said, all_of_them = 0, 0
    for index in range(60):
        circuit = draw_circuit(Seeded(11, index))
        if any(states <= 0 for states in circuit.states) or np.prod(circuit.states) > 300:
            continue
        model = circuit.compile(dtype=torch.float64)
        found = model.root(0).map(exact=False)
        oracle = Oracle(circuit)
        value = oracle.log_value(oracle.row(found.assignment.tolist()))
        want = best(circuit, {})
        assert found.upper_bound.item() + model.root(0).log_prob({}).item() >= want - 1e-9 * max(1.0, abs(want))
        all_of_them += 1
        if found.exact:
            said += 1
            assert value >= want - 1e-9 * max(1.0, abs(want)), index
    assert all_of_them >= 5
    assert said >= 1


def test_a_better_point_hidden_by_large_numbers():
    """A factor of e^-100,000 outside: a gap of 1e-6 between candidates stays a gap."""
    far = pc.Constant(1e-300)
    root = far
    for _ in range(150):
        root = root * pc.Constant(1e-300)
    leaves = pc.Bernoulli(["a"], torch.tensor([[0.5 - 1e-7, 0.5]], dtype=torch.float64))
    others = pc.Bernoulli(["b"], torch.tensor([[0.9, 0.2]], dtype=torch.float64))
    circuit = pc.Circuit((leaves * others).sum([0.4, 0.6]) * root)
    found = circuit.compile(dtype=torch.float64).map(exact=False)
    want = best(circuit, {})
    value = Oracle(circuit).log_value(Oracle(circuit).row(found.assignment.tolist()))
    assert want < -1e5
    if found.exact:
        assert value >= want - 1e-8
