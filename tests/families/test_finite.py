"""Bernoulli and Categorical against scipy, and the look-ups and blocks that finite families share."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pcircuits.errors import ParameterError
from pcircuits.families import Bernoulli, Categorical, finite
from pcircuits.families.finite import look_up


def test_bernoulli_is_scipys():
    probs = torch.tensor([0.0, 1e-300, 0.3, 1.0], dtype=torch.float64)
    for state in (0.0, 1.0):
        got = Bernoulli().log_density(torch.tensor(state, dtype=torch.float64), {"probs": probs})
        np.testing.assert_allclose(got.numpy(), stats.bernoulli.logpmf(state, probs.numpy()), rtol=1e-13)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_categorical_intervals_are_sums(states, seed):
    random = np.random.default_rng(seed)
    probs = random.dirichlet(np.full(states, 0.3), size=3)
    lower, upper = np.sort(random.uniform(-2, states + 2, size=(2, 5)), axis=0).round(random.integers(0, 2))
    got = Categorical(states).log_interval(
        torch.tensor(lower)[:, None], torch.tensor(upper)[:, None], {"probs": torch.tensor(probs)}
    )
    s = np.arange(states)
    want = [[p[(s >= a) & (s <= b)].sum() for p in probs] for a, b in zip(lower, upper, strict=True)]
    np.testing.assert_allclose(got.exp().numpy(), want, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_structural_zeros_give_zero_and_finite_gradients(dtype):
    probs = torch.tensor([[0.0, 0.25, 0.75]], dtype=dtype, requires_grad=True)
    x = torch.tensor([[0.0], [1.0], [7.0], [-1.0], [0.5], [torch.inf]], dtype=dtype)
    value = Categorical(3).log_density(x, {"probs": probs})
    assert (value[[0, 2, 3, 4, 5]] == -torch.inf).all()
    assert torch.autograd.grad(value.sum(), probs)[0].tolist() == [[0, 4, 0]]
    masses = Categorical(3).log_interval(x, x, {"probs": probs})
    assert torch.autograd.grad(masses.sum(), probs)[0].tolist() == [[0, 4, 0]]
    edges = torch.tensor([0.0, 1.0], dtype=dtype, requires_grad=True)
    for state, want in ((0.0, [-1.0, 0.0]), (1.0, [0.0, 1.0])):
        value = Bernoulli().log_density(torch.tensor(state, dtype=dtype), {"probs": edges})
        assert torch.autograd.grad(value.sum(), edges)[0].tolist() == want


def test_gradients_to_second_order():
    probs = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[0.0], [2.0], [1.0], [2.0]], dtype=torch.float64)
    family = Categorical(3)
    for query in (
        lambda p: family.log_density(x, {"probs": p}),
        lambda p: family.log_interval(x - 1, x, {"probs": p}),
        lambda p: family.central_second_moment({"probs": p}),
    ):
        assert torch.autograd.gradcheck(query, (probs,))
        assert torch.autograd.gradgradcheck(query, (probs,))


def test_infinite_functions_do_not_matter_where_the_probability_is_zero():
    probs = torch.tensor([0.0, 0.5, 0.5], dtype=torch.float64)
    assert Categorical(3).integral(torch.log, {"probs": probs}).item() == pytest.approx(0.5 * np.log(2))


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize("index_shape", [(), (1,), (5, 1, 1), (2, 6, 1), (2, 6, 3), (1, 1, 3)])
def test_look_up_is_gather(shape, index_shape):
    table = torch.rand(*shape, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    index = torch.randint(0, 7, index_shape, generator=torch.Generator().manual_seed(1))
    try:
        full = torch.broadcast_shapes(shape, index_shape)
    except RuntimeError:
        return
    want = table.expand(*full, 7).gather(-1, index.expand(full).unsqueeze(-1)).squeeze(-1)
    got = look_up(table, index)
    assert got.shape == full
    assert torch.equal(got, want)


def test_blocks_change_no_answer(monkeypatch):
    probs = torch.rand(5, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    family, parameters = Categorical(4), {"probs": probs / probs.sum(-1, keepdim=True)}

    def answers():
        generator = torch.Generator().manual_seed(1)
        return [
            family.argmax(parameters),
            family.log_max(parameters),
            family.draw(parameters, generator),
            family.raw_moment(2, parameters),
            family.central_second_moment(parameters),
        ]

    whole = answers()
    monkeypatch.setattr(finite, "BLOCK", 8)
    for one, other in zip(whole, answers(), strict=True):
        assert torch.equal(one, other)
        assert one.shape == (5, 3)


def test_no_units_have_no_answers():
    none = {"probs": torch.zeros(0, 3, dtype=torch.float64)}
    assert Categorical(3).draw(none, torch.Generator().manual_seed(0)).shape == (0,)
    assert Categorical(3).raw_moment(1, none).shape == (0,)


def test_draws_take_one_uniform_each_and_never_an_impossible_state():
    probs = torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0], dtype=torch.float64).expand(2000, 5)
    one, two = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    values = Categorical(5).draw({"probs": probs}, one)
    torch.rand(2000, generator=two, dtype=torch.float64)
    assert torch.equal(one.get_state(), two.get_state())
    assert set(values.tolist()) == {1.0, 3.0}
    single = Categorical(5).draw({"probs": probs.float()}, torch.Generator().manual_seed(3))
    assert torch.equal(single.double(), values)


def test_a_uniform_number_of_zero_draws_the_first_possible_state(monkeypatch):
    monkeypatch.setattr(finite, "uniform", lambda shape, like, generator: torch.zeros(shape, dtype=torch.float64))
    assert Categorical(3).draw({"probs": torch.tensor([0.0, 0.4, 0.6], dtype=torch.float64)}, None).item() == 1


def test_bad_numbers_of_states_are_refused():
    with pytest.raises(ParameterError, match="num_states of Categorical is 0"):
        Categorical(0)
    with pytest.raises(ParameterError, match=r"probs of Categorical\(num_states=3\) has shape \(2, 4\)"):
        Categorical(3).validate({"probs": torch.full((2, 4), 0.25)})
    with pytest.raises(ParameterError, match="last axis must hold the 3 states"):
        Categorical(3).validate({"probs": torch.tensor(1.0)})
