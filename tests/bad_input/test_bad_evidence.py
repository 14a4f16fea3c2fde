"""Evidence that is refused leaves the model, the evidence and earlier answers as they were."""

import pytest
import torch

import pcircuits as pc

pytestmark = pytest.mark.errors
NAN = float("nan")


@pytest.fixture
def circuit() -> pc.Circuit:
    """p(c, x): an indicator for c in 0..2, and a density for x that exists for c = 0 and 1 alone."""
    x = pc.Normal("x", [0.0, 3.0], 1.0)
    both = pc.Categorical("c", [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]) * x
    return pc.Circuit(pc.mixture([0.25, 0.75], both))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (torch.zeros(2, 3), r"shape \(2, 3\); it needs \(B, 2\), a column for each variable"),
        (torch.tensor([[0.0, 0.0], [3.0, 0.0]]), r"row 1: 'c' is 3; it needs an integer in 0\.\.2"),
        (torch.tensor([[0.5, 0.0]]), r"row 0: 'c' is 0\.5; it needs an integer in 0\.\.2"),
        (torch.tensor([[0.0, torch.inf]]), r"row 0: 'x' is inf; it needs a finite number"),
        ((torch.tensor([[0.0, NAN]]), torch.ones(1, 2, dtype=torch.bool)), r"row 0: 'x' is NaN, but the mask"),
        ({"c": [0, 1], "x": [0.0, 1.0, 2.0]}, r"different lengths: \{'c': 2, 'x': 3\}: give equally many"),
        ({"y": 1.0}, r"there is no variable 'y': there are 'c', 'x'"),
    ],
)
@pytest.mark.parametrize("query", ["log_prob", "given"])
def test_a_refused_row_changes_nothing(circuit, query, bad, says):
    model = circuit.compile(dtype=torch.float64)
    good = torch.tensor([[0.0, 1.5], [NAN, 1.5]], dtype=torch.float64)
    before, weights = model.log_prob(good), {name: p.clone() for name, p in model.state_dict().items()}
    kept = bad.clone() if isinstance(bad, torch.Tensor) else None
    with pytest.raises(pc.CircuitError, match=says):
        getattr(model, query)(bad)
    assert torch.equal(model.log_prob(good), before)
    assert all(torch.equal(weights[name], p) for name, p in model.state_dict().items())
    assert kept is None or torch.equal(kept, bad)


def test_nothing_follows_from_what_cannot_be(circuit):
    model = circuit.compile(dtype=torch.float64)
    with pytest.raises(
        pc.EvidenceError, match=r"evidence in rows 0, 2 has probability zero.*model\.log_prob\(evidence\)"
    ):
        model.given({"c": [2.0, 1.0, 2.0]})
    with pytest.raises(pc.EvidenceError, match="row 0 has probability zero"):
        pc.condition(circuit, {"c": 2})
    assert model.log_prob({"c": [2.0, 1.0]})[0] == -torch.inf


def test_conditioning_takes_one_row_and_leaves_a_variable(circuit):
    with pytest.raises(pc.EvidenceError, match=r"one row of evidence, not 2: model\.given"):
        pc.condition(circuit, {"c": [0, 1]})
    with pytest.raises(pc.EvidenceError, match="one row of evidence, not 0"):
        pc.condition(circuit, torch.zeros(0, 2))
    with pytest.raises(pc.ScopeError, match="everything is observed, and no variable remains"):
        pc.condition(circuit, {"c": 0, "x": 1.0})
