"""What tests of programs share."""

import copy

import pytest
import torch


def _raw_gradients(model, value):
    """For each trainable parameter of a circuit (by id), the gradient of its unconstrained numbers, in its shape.

    `state_dict` says which number of which parameter a stored number is: it is asked of a copy that holds the gradients.
    """
    own = [p for p in model.parameters() if p.requires_grad]
    if not own or not value.requires_grad:
        return {}
    found = torch.autograd.grad(value, own, retain_graph=True, allow_unused=True)
    twin = copy.deepcopy(model)
    places = [p for p in twin.parameters() if p.requires_grad]
    with torch.no_grad():
        for place in places:
            place.fill_(torch.nan)
        used = [torch.isnan(t) for t in _symbolic(twin)]
        for place, gradient in zip(places, found, strict=True):
            place.copy_(torch.zeros_like(place) if gradient is None else gradient)
        gradients = [torch.where(u, t, 0.0) for u, t in zip(used, _symbolic(twin), strict=True)]
    parameters = model.circuit.parameters()
    return {id(p): g for p, g in zip(parameters, gradients, strict=True) if p.trainable}


def _symbolic(model):
    """The circuit's parameters as they are in the state, in their order."""
    return [tensor for name, tensor in model.state_dict().items() if ".stored." in name]


@pytest.fixture(scope="session")
def raw_gradients():
    """The gradients of a value of a model with respect to its circuit's own parameters."""
    return _raw_gradients
