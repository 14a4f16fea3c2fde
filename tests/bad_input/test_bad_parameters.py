"""Parameters outside of their constraints, for every family; and those that are within, but for rounding."""

import numpy as np
import pytest
import torch

import pcircuits as pc

pytestmark = pytest.mark.errors
A = pc.Bernoulli("a", [0.1, 0.2])
NAN = float("nan")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda v: pc.Normal("a", 0.0, v), "scale of Normal"),
        (lambda v: pc.DiscretizedNormal("a", 0.5, v, levels=4), "scale of DiscretizedNormal"),
        (lambda v: pc.DiscretizedLogistic("a", 0.5, v, levels=4), "scale of DiscretizedLogistic"),
    ],
)
@pytest.mark.parametrize("value", [-1.0, 0.0, NAN, float("inf")])
def test_every_family_names_what_is_outside(make, says, value):
    with pytest.raises(pc.ParameterError, match=rf"{says}.* at \[0, 0\] is {value}: it must be finite and > 0"):
        make(value)


@pytest.mark.parametrize("value", [1.5, -0.5, NAN])
def test_probabilities_of_a_bernoulli(value):
    probs = torch.tensor([[0.5, 0.25], [0.5, value]])
    with pytest.raises(
        pc.ParameterError, match=rf"probs .*over 2 variables at \[1, 1\] is {value}: it must be in \[0, 1\]"
    ):
        pc.Bernoulli(["a", "b"], probs)


@pytest.mark.parametrize(
    ("probs", "says"),
    [
        ([0.5, 0.6], r"\(sum 1\.1\)"),
        ([0.5, 0.4], r"\(sum 0\.9\)"),
        ([-0.5, 1.5], r"is \[-0\.5, 1\.5\]"),
        ([0.5, NAN], r"is \[0\.5, nan\]"),
        ([[0.5, 0.5], [0.5, 0.25]], r"at \[0, 1\] is \[0\.5, 0\.25\] \(sum 0\.75\)"),
        ([], "num_states of Categorical is 0"),
    ],
)
def test_probabilities_of_a_categorical(probs, says):
    with pytest.raises(pc.ParameterError, match=rf"{says}.*it must be"):
        pc.Categorical("a", probs)


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ([0.5, 0.6], r"\(sum 1\.1\)"),
        ([-0.5, 1.5], r"is \[-0\.5, 1\.5\]"),
        ([NAN, 1.0], r"is \[nan, 1\]"),
        ([0.0, 0.0], r"\(sum 0\)"),
        (torch.tensor([0.5, 0.5001]), r"\(sum 1\.0001\)"),
    ],
)
def test_weights_of_a_mixture(weights, says):
    with pytest.raises(pc.ParameterError, match=rf"the weights of a mixture .*{says}.*it must be >= 0 and sum to 1"):
        pc.mixture(weights, A)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("states", [2, 256, 10_000])
def test_a_simplex_may_miss_one_by_the_rounding_of_its_dtype(dtype, states):
    probs = torch.rand(3, 2, states, generator=torch.Generator().manual_seed(0), dtype=dtype)
    probs = probs / probs.sum(-1, keepdim=True)
    from_torch, from_numpy = pc.Categorical(range(3), probs), pc.Categorical(range(3), probs.numpy())
    assert from_numpy.parameters["probs"].value.dtype == dtype
    assert torch.equal(from_torch.parameters["probs"].value, from_numpy.parameters["probs"].value)
    pc.mixture(probs[0, 0].numpy(), pc.Bernoulli("a", np.full(states, 0.5, np.float32)))
    with pytest.raises(pc.ParameterError, match="sum to 1"):
        pc.Categorical(range(3), probs * 1.01)


@pytest.mark.parametrize("make", [lambda x: x[::-1], lambda x: np.lib.stride_tricks.as_strided(x, writeable=False)])
def test_arrays_of_any_layout_are_copied(make):
    array = make(np.array([0.1, 0.2, 0.3]))
    units = pc.Bernoulli("a", array)
    assert units.parameters["probs"].value.tolist() == [array.tolist()]
    pair = (np.array([[0.5, 1.0]])[:, ::-1] * A).units
    assert pair.weights.value.flatten().tolist() == [1.0, 0.5]


def test_a_probability_near_one_is_exact_as_a_categorical():
    """The complement of a trained Bernoulli's probability has the rounding of that probability."""
    tiny, zero = 1e-9, {"a": [0.0, 1.0]}
    exact = pc.Circuit(pc.Categorical("a", [tiny, 1 - tiny])).compile(dtype=torch.float64).log_prob(zero)
    near = pc.Circuit(pc.Bernoulli("a", 1 - tiny)).compile(dtype=torch.float64).log_prob(zero)
    assert exact.tolist() == pytest.approx([np.log(tiny), np.log1p(-tiny)], rel=1e-14)
    assert near.tolist() == pytest.approx([np.log(tiny), np.log1p(-tiny)], abs=5e-7)


def test_what_was_given_is_never_changed():
    given = torch.tensor([0.25, 0.75])
    parameter = pc.Parameter(given, pc.simplex)
    given[0] = 5.0
    assert parameter.value.tolist() == [0.25, 0.75]
