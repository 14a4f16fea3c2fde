"""Pickled models, deep copies, and models whose training has gone wrong."""

import copy
import pickle

import pytest
import torch
from torch import nn

import pcircuits as pc


class Table(nn.Module):
    """A source with numbers of its own."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.linspace(-1.0, 1.0, 12).reshape(3, 4))

    def parameters_for(self, columns):
        return {"loc": self.loc[:, columns], "scale": torch.ones_like(self.loc[:, columns])}


def stored():
    return pc.Circuit(pc.Normal(range(3), torch.linspace(-1.0, 1.0, 12).reshape(3, 4), 1.0).prod().sum([0.25] * 4))


def sourced():
    units = pc.Input(pc.families.Normal(), [(0,), (1,), (2,)], pc.Sourced(Table(), 3, 4))
    return pc.Circuit(units.prod().sum([0.25] * 4))


def trained(circuit):
    model = circuit.compile(dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    (-model.log_prob(torch.ones(2, 3, dtype=torch.float64)).sum()).backward()
    optimizer.step()
    return model


@pytest.mark.parametrize("make", [stored, sourced])
@pytest.mark.parametrize("copied", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy], ids=["pickle", "deepcopy"])
def test_copies_keep_what_was_learnt(make, copied):
    model = trained(make())
    twin = copied(model)
    x = torch.tensor([[0.5, -0.5, torch.nan]], dtype=torch.float64)
    assert torch.equal(twin.log_prob(x), model.log_prob(x))
    assert torch.equal(twin.posterior(twin.circuit.sums[0]), model.posterior(model.circuit.sums[0]))
    again = twin.to_circuit().compile(dtype=torch.float64)
    torch.testing.assert_close(again.log_prob(x), model.log_prob(x), rtol=0, atol=1e-12)
    assert not torch.equal(again.log_prob(x), make().compile(dtype=torch.float64).log_prob(x))


def test_parameters_that_are_nan_are_not_taken_for_impossible_evidence():
    model = stored().compile(dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(pc.ParameterError, match=r"NaN.*learning rate"):
        model.given({0: 0.0})
    with pytest.raises(pc.ParameterError, match="NaN"):
        model.mean()
