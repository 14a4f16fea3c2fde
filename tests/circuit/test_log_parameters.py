"""Parameters from logarithms: weights below the smallest float stay what they are."""

import copy
import math
import pickle

import pytest
import torch

import pcircuits as pc
from pcircuits.testing.oracle import Oracle

FAR = [-800.0, -801.0, -torch.inf]
"""exp of the first two is 0 in float64."""


def test_logs_survive():
    weights = pc.Parameter.from_log(FAR, pc.nonnegative, name="w")
    assert weights.value.tolist() == [0.0, 0.0, 0.0]
    assert weights.log_value.dtype == weights.value.dtype == torch.float64
    for same in (weights, weights.frozen(), copy.deepcopy(weights), pickle.loads(pickle.dumps(weights))):
        assert same.log().tolist() == FAR
        assert (same.shape, same.name) == ((3,), "w")
    assert weights.trainable
    assert not weights.frozen().trainable
    assert not pc.Parameter.from_log(FAR, pc.nonnegative, trainable=False).trainable


def test_a_simplex_is_normalised():
    rare = pc.Parameter.from_log(torch.tensor([[0.0, -1000.0], [math.log(0.25), math.log(0.75)]]), pc.simplex)
    assert rare.log().exp().sum(-1).tolist() == pytest.approx([1.0, 1.0], abs=1e-15)
    assert rare.log()[0].tolist() == [0.0, -1000.0]
    assert rare.value[1].tolist() == pytest.approx([0.25, 0.75], rel=1e-6)
    logits = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    for given in (logits.log_softmax(-1), logits.double().log_softmax(-1), logits.log_softmax(-1).tolist()):
        found = pc.Parameter.from_log(given, pc.simplex)
        assert found.log().logsumexp(-1).item() == pytest.approx(0.0, abs=1e-14)
        assert torch.allclose(found.log(), logits.double().log_softmax(-1), atol=1e-5, rtol=0)


def test_the_log_of_a_value():
    assert pc.Parameter([0.5, 2.0, 0.0], pc.nonnegative).log().tolist() == [math.log(0.5), math.log(2.0), -math.inf]
    assert pc.Parameter([0.5, 2.0], pc.nonnegative).log_value is None
    near = pc.Parameter(torch.tensor([0.3333333] * 3), pc.simplex)
    assert near.log().exp().sum().item() == pytest.approx(1.0, abs=1e-15)


def test_what_was_given_is_never_changed():
    given = torch.tensor([-1.0, -2.0], dtype=torch.float64)
    weights = pc.Parameter.from_log(given, pc.nonnegative)
    given.zero_()
    assert weights.log().tolist() == [-1.0, -2.0]


def test_they_are_weights_of_sums():
    """The ratio of two weights is e, though both are below the smallest float."""
    far = pc.Circuit(pc.Bernoulli("a", [0.1, 0.6, 0.9]).sum(pc.Parameter.from_log(FAR, pc.nonnegative)))
    normalised = pc.normalise(far).root.weights.value
    assert normalised.tolist() == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.e), 0.0], rel=1e-12)


def test_they_are_weights_of_mixtures():
    """Evidence that rules out the first component leaves two of weight exp(-900) and exp(-901)."""
    units = pc.Bernoulli("a", [0.0, 0.6, 0.9]) * pc.Normal("x", [0.0, 1.0, 2.0], 1.0)
    circuit = pc.Circuit(pc.mixture(pc.Parameter.from_log([0.0, -900.0, -901.0], pc.simplex), units))
    posterior = pc.condition(circuit, {"a": 1}).root.weights.value
    one, two = 0.6, 0.9 / math.e
    assert posterior[posterior > 0].tolist() == pytest.approx([one / (one + two), two / (one + two)], rel=1e-12)


@pytest.mark.errors
@pytest.mark.parametrize(
    ("log", "constraint", "says"),
    [
        ([0.0, math.nan], pc.nonnegative, r"the log of w at \[1\] is nan: it must be a number below 709\.78"),
        (
            [0.0, math.inf],
            pc.nonnegative,
            r"at \[1\] is inf: it must be a number below 709\.78, the log of the largest",
        ),
        (710.0, pc.nonnegative, r"the log of w is 710\.0: it must be"),
        ([-0.1, -5.0], pc.simplex, r"weights with the sum 0\.911575: they must sum to 1; torch\.log_softmax\(x, -1\)"),
        ([[0.0, -900.0], [1.0, 2.0]], pc.simplex, r"the log of w at \[1\] is that of weights with the sum 10\.1073"),
        ([-math.inf, -math.inf], pc.simplex, "with the sum 0: they must sum to 1"),
        (0.0, pc.simplex, "is a single number where a vector is needed"),
        ([0.0], pc.positive, "logarithms make nonnegative and simplex parameters, not positive ones"),
        (["a"], pc.nonnegative, "w is not a number or an array of numbers"),
    ],
)
def test_refused(log, constraint, says):
    with pytest.raises(pc.ParameterError, match=says):
        pc.Parameter.from_log(log, constraint, name="w")


def test_the_oracle_takes_them():
    """log p of a mixture whose weights are below the smallest float, by hand."""
    u = pc.Bernoulli("a", [0.1, 0.6, 0.9])
    far = Oracle(pc.Circuit(u.sum(pc.Parameter.from_log(FAR, pc.nonnegative))))
    assert far.log_prob({"a": 1}) == pytest.approx(-800.0 + math.log(0.1 + 0.6 / math.e), rel=1e-14)
    rare = Oracle(pc.Circuit(pc.mixture(pc.Parameter.from_log([-math.inf, 0.0, -900.0], pc.simplex), u)))
    assert rare.log_prob({"a": 1}) == pytest.approx(math.log(0.6), rel=1e-14)


def test_files_give_them_back(tmp_path):
    rare = pc.Parameter.from_log([0.0, -1000.0, -1001.0], pc.simplex, trainable=False, name="rare")
    far = pc.Parameter.from_log([FAR, [0.0, 1.0, 2.0]], pc.nonnegative)
    u = pc.Bernoulli("a", [0.1, 0.6, 0.9])
    circuit = pc.Circuit(pc.concat([u.sum(far), u.sum(rare), u.sum([0.5, 0.25, 0.25])], axis="width").sum([0.5] * 4))
    pc.save(circuit, tmp_path / "c.pc")
    again = [array.weights for array in pc.load(tmp_path / "c.pc").sums]
    for one, two in zip([array.weights for array in circuit.sums], again, strict=True):
        assert torch.equal(one.value, two.value)
        assert (one.log_value is None) == (two.log_value is None)
        assert torch.equal(one.log(), two.log())
        assert (one.constraint, one.trainable, one.name) == (two.constraint, two.trainable, two.name)


def test_an_input_of_a_weight_below_the_smallest_float_is_not_dropped():
    """Conditioned on a and then on b, the second component of weight exp(-900) is all that is left."""
    units = pc.Bernoulli("a", 0.5) * pc.Bernoulli("b", [0.0, 0.25]) * pc.Normal("x", [0.0, 5.0], 1.0)
    circuit = pc.Circuit(pc.mixture(pc.Parameter.from_log([0.0, -900.0], pc.simplex), units))
    once = pc.condition(circuit, {"a": 1})
    assert once.root.weights.log().tolist() == pytest.approx([0.0, -900.0], abs=1e-9)
    assert pc.condition(once, {"b": 1}).compile(dtype=torch.float64).mean().tolist() == [5.0]


def test_determinism_sees_them():
    overlapping = pc.Normal("x", [0.0, 1.0], 1.0)
    one, both = ([0.0, -math.inf], [0.0, -900.0])
    for log, deterministic in ((one, True), (both, False)):
        circuit = pc.Circuit(pc.mixture(pc.Parameter.from_log(log, pc.simplex), overlapping))
        assert bool(circuit.check().deterministic) is deterministic


def test_they_are_constants():
    """The first of two products is exp(1) times as heavy, though no float holds either."""
    heavy, light = (pc.Constant(pc.Parameter.from_log(log, pc.nonnegative)) for log in (-900.0, -901.0))
    circuit = pc.Circuit(heavy * pc.Bernoulli("a", 0.25) + light * pc.Bernoulli("a", 0.75))
    assert not circuit.check().deterministic.holds
    found = pc.normalise(circuit).compile(dtype=torch.float64).mean().item()
    assert found == pytest.approx((0.25 * math.e + 0.75) / (math.e + 1), rel=1e-12)


def test_they_are_parameters_of_inputs_of_which_some_are_left():
    rows = [[[0.0, -900.0]], [[-901.0, 0.0]]]
    states = pc.Categorical(["a", "b"], pc.Parameter.from_log(rows, pc.simplex))
    left = pc.marginalize(pc.Circuit(states.prod()), "a").inputs[0].parameters["probs"]
    assert left.log().flatten().tolist() == [-901.0, 0.0]
