"""Cutset networks against enumeration: determinism, likelihoods, and exact most probable completions."""

import itertools

import pytest
import torch

import pcircuits as pc
from pcircuits.learning.cutset_network import cutset_network
from pcircuits.structures import chow_liu_tree, observed_tree


def switched(rows=600):
    """The first column says which of the others copies which: no tree holds both."""
    g = torch.Generator().manual_seed(0)
    first = torch.randint(0, 3, (rows,), generator=g)
    a, b, c = (torch.randint(0, 2, (rows,), generator=g) for _ in range(3))
    noise = torch.rand(rows, generator=g) < 0.1
    d = torch.where(first == 0, a, torch.where(first == 1, b, 1 - c))
    return torch.stack([first, a, b, c, torch.where(noise, 1 - d, d)], 1)


@pytest.fixture(scope="module")
def learned():
    return switched(), *cutset_network(switched())


def test_it_branches_where_no_tree_fits(learned):
    data, circuit, report = learned
    tree = observed_tree(chow_liu_tree(data), data).compile(dtype=torch.float64).log_prob(data).sum().item()
    assert report.splits
    assert report.trees > len(report.splits)
    assert report.log_likelihood > tree + 50
    model = circuit.compile(dtype=torch.float64)
    assert model.log_prob(data).sum().item() == pytest.approx(report.log_likelihood)


def test_it_is_normalised_and_deterministic_and_its_maps_are_exact(learned):
    _, circuit, _ = learned
    assert circuit.check().deterministic.holds
    model = circuit.compile(dtype=torch.float64)
    everything = torch.tensor(list(itertools.product(range(3), *[range(2)] * 4))).double()
    logs = model.log_prob(everything).detach()
    assert logs.exp().sum().item() == pytest.approx(1.0)
    assert (logs > -torch.inf).all()
    found = model.map()
    assert bool(found.exact)
    assert found.log_prob.item() == pytest.approx(logs.max().item())
    given = model.given({4: 1, 1: 0}).map()
    agree = (everything[:, 4] == 1) & (everything[:, 1] == 0)
    assert model.log_prob(given.assignment).item() == pytest.approx(logs[agree].max().item())


def test_without_splits_it_is_the_chow_liu_tree():
    data = switched()
    circuit, report = cutset_network(data, most_splits=0)
    tree = observed_tree(chow_liu_tree(data), data, pseudocount=0.1).compile(dtype=torch.float64)
    assert report.splits == ()
    torch.testing.assert_close(circuit.compile(dtype=torch.float64).log_prob(data), tree.log_prob(data))


def test_independent_columns_are_not_branched():
    data = torch.randint(0, 2, (500, 5), generator=torch.Generator().manual_seed(3))
    assert cutset_network(data)[1].splits == ()


@pytest.mark.errors
def test_data_that_do_not_fit_are_refused():
    with pytest.raises(pc.EvidenceError, match="without missing values"):
        cutset_network(torch.tensor([[0.0, torch.nan], [1.0, 0.0]]))
    with pytest.raises(pc.EvidenceError, match="at least two columns"):
        cutset_network(torch.zeros(5, 1))
