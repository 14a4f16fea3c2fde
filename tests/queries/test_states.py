"""P(a state | given) of all states of a variable, against the conditional of each state by itself."""

import pytest
import torch

import pcircuits as pc
from pcircuits import structures
from pcircuits.errors import ScopeError
from pcircuits.queries.states import state_probabilities


def circuits():
    generator = torch.Generator().manual_seed(0)
    chain = structures.layered(
        structures.chain(["a", "b", "c"]), structures.categorical_leaves(3), 2, roots=2, generator=generator
    )
    mixed = pc.Categorical("a", [0.2, 0.0, 0.8]) * pc.Bernoulli("b", 0.3) * pc.Indicator("c", 1)
    other = pc.Categorical("a", [0.5, 0.5, 0.0]) * pc.Bernoulli("b", 0.9) * pc.Categorical("c", [0.1, 0.2, 0.7])
    return {"chain": chain, "kinds": pc.Circuit(0.4 * mixed + 1.2 * other, variables=["b", "a", "c"])}


@pytest.mark.parametrize("rewrites", [None, ()], ids=["all rewrites", "none"])
@pytest.mark.parametrize("name", ["chain", "kinds"])
@pytest.mark.parametrize("memory", [None, 1])
def test_they_are_the_conditionals_of_each_state(name, rewrites, memory):
    circuit = circuits()[name]
    model = circuit.compile(dtype=torch.float64, rewrites=rewrites, memory=memory)
    root = torch.tensor([0, circuit.num_roots - 1])
    given = model.root(root).given({"b": torch.tensor([0.0, 1.0])})
    got = state_probabilities(given, "a", 3)
    states = [given.log_prob({"a": torch.full((2,), float(s))}).exp() for s in range(3)]
    torch.testing.assert_close(got, torch.stack(states, 1).detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(got.sum(1), torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-12)


def test_an_impossible_state_has_no_probability():
    model = circuits()["kinds"].compile(dtype=torch.float64)
    got = state_probabilities(model.given({"c": 1.0, "a": 2.0}), "b", 2)
    torch.testing.assert_close(got, torch.tensor([[0.7, 0.3]], dtype=torch.float64), rtol=0, atol=1e-12)
    assert state_probabilities(model.given({"c": 0.0}), "a", 3)[0, 2] == 0.0


@pytest.mark.errors
def test_a_variable_that_is_none_says_so():
    with pytest.raises(ScopeError, match="no variable 'd'"):
        state_probabilities(circuits()["chain"].compile().root(0).given({"b": 1}), "d", 3)
