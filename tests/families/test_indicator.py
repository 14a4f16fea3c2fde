"""The indicator family: one state, and its errors."""

import pytest
import torch

from pcircuits.errors import ParameterError
from pcircuits.families import Indicator

STATE = {"state": torch.tensor([0.0, 2.0], dtype=torch.float64)}


def test_one_at_the_state_and_zero_elsewhere():
    x = torch.tensor([[0.0], [1.0], [2.0], [0.5]], dtype=torch.float64)
    assert Indicator().log_density(x, STATE).exp().tolist() == [[1, 0], [0, 0], [0, 1], [0, 0]]


def test_intervals_are_closed():
    for lower, upper, want in [
        (0, 2, [1, 1]),
        (0, 1.9, [1, 0]),
        (2, 2, [0, 1]),
        (1, 0, [0, 0]),
        (-torch.inf, 0, [1, 0]),
    ]:
        ends = (torch.tensor(float(end), dtype=torch.float64) for end in (lower, upper))
        assert Indicator().log_interval(*ends, STATE).exp().tolist() == want


def test_draws_use_no_random_numbers():
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert Indicator().draw(STATE, generator).tolist() == [0, 2]
    assert torch.equal(generator.get_state(), before)


def test_moments():
    assert Indicator().raw_moment(3, STATE).tolist() == [0, 8]
    assert Indicator().central_second_moment(STATE).tolist() == [0, 0]
    assert Indicator().integral(torch.exp, STATE).tolist() == pytest.approx([1, 7.38905609893065])


@pytest.mark.parametrize("state", [-1.0, 0.5])
def test_states_are_integers(state):
    with pytest.raises(ParameterError, match=f"state of Indicator is {state}"):
        Indicator().validate({"state": torch.tensor([0.0, state])})
