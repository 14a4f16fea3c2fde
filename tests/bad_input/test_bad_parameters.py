"""Parameters outside of their constraints, for every family; and those that are within, but for rounding."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
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


@pytest.mark.parametrize(
    "probs",
    [
        [0.3333, 0.3333, 0.3333],
        [0.333, 0.333, 0.333],
        [0.33, 0.33, 0.33],
        [0.3333333] * 3,
        [0.0, 0.3333, 0.3333, 0.3333],
        [0.143] * 7,
        np.array([0.3333] * 3, np.float32),
        np.array([0.3333] * 3, np.float32).tolist(),
        torch.full((3,), 0.3333, dtype=torch.float16),
        torch.softmax(torch.randn(50, generator=torch.Generator().manual_seed(0)), 0).half(),
        torch.softmax(torch.randn(50, generator=torch.Generator().manual_seed(0)), 0).half().tolist(),
        torch.softmax(torch.randn(50, generator=torch.Generator().manual_seed(0)), 0).bfloat16(),
        torch.softmax(torch.randn(1000, generator=torch.Generator().manual_seed(0)), 0).tolist(),
        [[0.5, 0.5, 0.0], [0.3333, 0.3333, 0.3333]],
    ],
    ids=repr,
)
def test_probabilities_that_were_rounded_are_divided_by_their_sum(probs):
    given = torch.as_tensor(np.asarray(probs, np.float64) if isinstance(probs, list) else probs).double()
    value = pc.Parameter(probs, pc.simplex).value
    assert value.dtype == torch.float64
    assert value.sum(-1).flatten().tolist() == pytest.approx([1.0] * value.sum(-1).numel(), abs=1e-15 * value.shape[-1])
    assert torch.allclose(value, given / given.sum(-1, keepdim=True), rtol=1e-15, atol=0)
    assert torch.equal(value == 0, given == 0)
    pc.Categorical("c", probs)
    if given.ndim == 1:
        pc.mixture(probs, pc.Bernoulli("a", np.full(len(given), 0.5)))


@pytest.mark.parametrize(
    "probs",
    [
        [0.3, 0.3, 0.3],
        [0.1] * 9,
        [0.5, 0.4],
        [0.5, 0.49],
        [0.5, 0.499],
        [0.25, 0.251, 0.501],
        [0.333333, 0.333333, 0.33332],
        [0.001] * 900,
        [1 / 3, 1 / 3, 0.3333],
        [1 / 3, 1 / 3, 1 / 3 + 1e-6],
        np.array([0.3, 0.3, 0.3], np.float32),
        torch.full((3,), 0.3, dtype=torch.float16),
        [[0.5, 0.5], [0.5, 0.4]],
    ],
    ids=repr,
)
def test_probabilities_that_no_rounding_explains(probs):
    with pytest.raises(pc.ParameterError, match="it must be >= 0 and sum to 1"):
        pc.Parameter(probs, pc.simplex)


def test_probabilities_that_sum_to_one_are_kept_bit_by_bit():
    for probs in ([0.1, 0.2, 0.7], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5]):
        assert pc.Parameter(probs, pc.simplex).value.tolist() == probs


@pytest.mark.parametrize(
    "make",
    [
        lambda v: pc.Normal("x", v, 1.0),
        lambda v: pc.Normal("x", 0.0, v),
        lambda v: pc.Normal("x", [0.0, 1.0], 1.0).sum(v),
        lambda v: pc.mixture(v, A),
        lambda v: pc.Parameter(v, pc.nonnegative),
        lambda v: pc.Parameter(list(v), pc.simplex),
        lambda v: pc.Parameter.from_log(v, pc.nonnegative),
        lambda v: pc.Categorical("x", v),
        lambda v: (v[0] * A + v[1] * A).units,
        lambda v: pc.inputs(pc.families.Normal(), "x", {"loc": v, "scale": 1.0}),
    ],
)
def test_tensors_with_a_graph_are_not_cut_off_in_silence(make):
    own = torch.nn.Parameter(torch.tensor([0.25, 0.75]))
    for value in (own, own * 1.0, torch.nn.Linear(1, 2)(torch.ones(1)).softmax(-1)):
        with pytest.raises(pc.ParameterError, match=r"requires a gradient.*x\.detach\(\).*pcircuits\.Sourced"):
            make(value)
        make(value.detach())
    with torch.no_grad(), pytest.raises(pc.ParameterError, match="requires a gradient"):
        pc.Parameter(own, pc.nonnegative)


def test_numbers_of_every_kind_are_parameters():
    for loc in (
        Decimal("0.5"),
        Fraction(1, 2),
        np.float32(0.5),
        np.array(0.5),
        torch.tensor(0.5),
        pd.Series([0.5], index=[4]),
    ):
        units = pc.Normal("x", loc, 1)
        assert units.parameters["loc"].value.tolist() == [[0.5]]
    assert pc.Categorical("x", [Fraction(1, 3)] * 3).parameters["probs"].value.sum() == 1.0
    assert pc.Bernoulli("x", np.ma.masked_array([0.25])).shape == (1, 1)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.ma.masked_array([0.5, 0.5], [True, False]), "has masked entries: every parameter needs a value"),
        ("wet", "is not a number or an array of numbers: 'wet'"),
        (None, "is not a number"),
        (1j, "is not a number"),
        (torch.zeros(2, dtype=torch.complex64), "which are no real numbers"),
        (torch.eye(2).to_sparse(), "it is a sparse or nested tensor"),
        ([0.5, None], "is nan: it must be finite"),
        ([[0.5], [0.5, 0.5]], "is not a number or an array of numbers"),
    ],
)
def test_what_is_no_number(value, says):
    with pytest.raises(pc.ParameterError, match=says):
        pc.Parameter(value, pc.real, name="loc")
