"""A batch without rows has an answer without rows, and gradients of zero."""

import pytest
import torch


@pytest.mark.parametrize("name", ["normal_mixture", "discretised_mixture", "sourced", "layered"])
@pytest.mark.parametrize("rewrites", [None, ()])
def test_gradients_of_an_empty_batch_are_zero(named_case, name, rewrites):
    circuit = named_case(name).circuit
    model = circuit.compile(dtype=torch.float64, rewrites=rewrites)
    nothing = torch.zeros(0, len(circuit.variables), dtype=torch.float64)
    for query in (
        lambda: model.log_prob(nothing),
        lambda: model.given(nothing).log_prob(nothing),
        lambda: model.given(nothing).probability(0.0, 1.0),
        lambda: model.probability(nothing, 1.0),
    ):
        model.zero_grad(set_to_none=True)
        answer = query()
        assert answer.shape == (0,)
        answer.sum().backward()
        assert all(p.grad is None or not p.grad.any() for p in model.parameters())
