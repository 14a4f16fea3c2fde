"""LearnSPN on tables whose structure is known."""

import pytest
import torch

import pcircuits as pc
from pcircuits.learning.structure import cutset_network, learn_spn


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def clustered(rows=1200):
    """Two clusters of rows that decide two numbers and a category; a third number is independent of all."""
    g = seeded()
    which = torch.rand(rows, generator=g) < 0.4
    numbers = torch.randn(rows, 3, generator=g)
    numbers[:, 0] += torch.where(which, 6.0, 0.0)
    numbers[:, 1] -= torch.where(which, 6.0, 0.0)
    category = torch.where(which, torch.randint(0, 2, (rows,), generator=g), 2)
    return torch.cat([numbers, category.unsqueeze(1)], 1).double()


def test_independent_columns_are_apart_and_clusters_are_summed():
    circuit, report = learn_spn(clustered(), variables=["a", "b", "c", "kind"], generator=seeded())
    assert report.sums == 1
    assert isinstance(circuit.root, pc.Product)
    assert circuit.states == (-1, -1, -1, 3)
    model = circuit.compile(dtype=torch.float64)
    assert model.covariance()[2, [0, 1, 3]].abs().max().item() < 1e-9
    shares = model.given({"kind": [0, 2]}).mean()
    assert shares[0, 0].item() == pytest.approx(6.0, abs=0.3)
    assert shares[1, 0].item() == pytest.approx(0.0, abs=0.3)


def test_it_is_normalised_and_better_than_independence():
    data = clustered()
    circuit, _ = learn_spn(data, generator=seeded())
    apart, report = learn_spn(data, significance=0.0, generator=seeded())
    assert report.sums == 0
    assert circuit.check().normalised.holds
    better, worse = (c.compile(dtype=torch.float64).log_prob(data).mean().item() for c in (circuit, apart))
    assert better > worse + 1.5


def test_missing_cells_are_left_out():
    data = clustered()
    data[torch.rand(data.shape, generator=seeded(1)) < 0.2] = torch.nan
    circuit, _ = learn_spn(data, generator=seeded())
    mean = circuit.compile(dtype=torch.float64).mean()
    assert torch.allclose(mean, data.nanmean(0), atol=0.3)


@pytest.mark.errors
def test_columns_of_nothing_are_refused():
    with pytest.raises(pc.EvidenceError, match="nothing is known of column 1"):
        learn_spn(torch.tensor([[0.0, torch.nan], [1.0, torch.nan]]), generator=seeded())


def test_the_learners_have_one_home():
    assert callable(cutset_network)
