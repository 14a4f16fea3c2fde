"""A row of probability zero has no gradient, neither in parameters nor in data, whichever pass it takes."""

import pytest
import torch

import pcircuits as pc


@pytest.mark.parametrize("rewrites", [None, ()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_impossible_factor_leaves_the_other_without_a_gradient(rewrites, dtype):
    circuit = pc.Circuit(pc.Exponential("wait", 2.0) * pc.Normal("x", 1.0, 1.0))
    model = circuit.compile(dtype=dtype, rewrites=rewrites)
    x = torch.tensor([[-1.0, 3.0]], dtype=dtype, requires_grad=True)
    value = model.log_prob(x)
    assert value.item() == -torch.inf
    value.sum().backward()
    assert not x.grad.any()
    assert not any(p.grad.any() for p in model.parameters() if p.grad is not None)
