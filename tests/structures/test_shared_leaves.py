"""Leaves that mix components which all variables share, against sums by hand."""

import networkx as nx
import pytest
import torch

import pcircuits as pc
from pcircuits.errors import CircuitError, EvidenceError, ParameterError
from pcircuits.families import Categorical, Normal
from pcircuits.learning import EMSettings, em
from pcircuits.structures import counted_start, hidden_tree, quantile_tables, shared_leaves


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


TABLES = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]).double()


def test_units_are_mixtures_of_the_shared_components():
    units = shared_leaves(Categorical(3), {"probs": TABLES})(["x", "y"], 2, seeded())
    model = pc.Circuit(units.prod()[0, 1]).compile(dtype=torch.float64)
    x = torch.tensor([[0.0, 2.0], [1.0, 1.0]])
    want = torch.stack([units.weights.value[v, 1].double() @ TABLES[:, x[:, v].long()] for v in range(2)]).prod(0)
    torch.testing.assert_close(model.log_prob(x).exp().detach(), want)


def test_em_moves_the_components_of_all_variables_together():
    """One variable's data alone change the tables that the other's units mix."""
    circuit = pc.Circuit(shared_leaves(Categorical(3), {"probs": TABLES})(["x", "y"], 1, seeded()).prod())
    model = circuit.compile(dtype=torch.float64)
    em(model, {"x": torch.tensor([0.0, 0.0, 1.0])}, settings=EMSettings(epochs=3, pseudocount=0.0))
    tables = [array.parameters["probs"].value for array in model.to_circuit().inputs]
    assert torch.equal(tables[0], tables[1])
    assert float(tables[0][..., 2].max()) < 1e-12


def test_a_counted_start_gives_the_posterior_shares_of_components():
    data, latents = torch.tensor([[0], [0], [2], [1]]), torch.tensor([[0], [0], [1], [1]])
    start = counted_start(data, latents, pseudocount=0.0, rows=0.0)
    tree = nx.Graph()
    tree.add_node("x")
    leaves = shared_leaves(Categorical(3), {"probs": TABLES})
    circuit = hidden_tree(tree, leaves, 2, start=start, generator=seeded())
    posterior = TABLES / TABLES.sum(0)  # P(component | state), of equal prior weights
    want = torch.stack([posterior[:, 0], (posterior[:, 2] + posterior[:, 1]) / 2])
    weights = next(array.weights.value for array in circuit.sums if array.shape == (1, 2))
    torch.testing.assert_close(weights[0], want)


def test_densities_may_be_shared_too():
    components = {"loc": torch.tensor([0.0, 5.0]).double(), "scale": torch.tensor([1.0, 1.0]).double()}
    data, latents = torch.tensor([[0.1], [5.2]]), torch.tensor([[0], [1]])
    tree = nx.Graph()
    tree.add_node("x")
    start = counted_start(data, latents, pseudocount=0.0, rows=0.0)
    circuit = hidden_tree(tree, shared_leaves(Normal(), components), 2, start=start, generator=seeded())
    weights = next(array.weights.value for array in circuit.sums if array.shape == (1, 2))
    torch.testing.assert_close(weights[0], torch.eye(2).double(), rtol=0, atol=1e-4)


def test_tables_lie_about_the_quantiles():
    values = torch.cat([torch.zeros(50), torch.arange(1, 101)]).long()
    tables = quantile_tables(values, 101, 5)
    torch.testing.assert_close(tables.sum(1), torch.ones(5).double())
    peaks = tables.argmax(1).tolist()
    assert peaks[0] == 0
    assert peaks[1:] == pytest.approx([13, 38, 63, 88], abs=1)  # the middles of four equal parts of 1..100


def test_what_does_not_fit_is_refused():
    with pytest.raises(ParameterError, match="components"):
        quantile_tables(torch.zeros(3), 2, 1)
    with pytest.raises(ParameterError, match=r"within 0\.\.7, not within 0\.\.2"):
        quantile_tables(torch.tensor([0, 7]), 3, 2)
    tree = nx.Graph()
    tree.add_node("x")
    certain = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).double()
    start = counted_start(torch.tensor([[2]]), torch.tensor([[0]]))
    with pytest.raises(EvidenceError, match=r"no component of Categorical\(.*\) admits 2\.0"):
        hidden_tree(tree, shared_leaves(Categorical(3), {"probs": certain}), 1, start=start, generator=seeded())

    def nested(variables, width, generator):
        inner = shared_leaves(Categorical(3), {"probs": TABLES})(variables, 2, generator)
        return inner.sum([[0.5, 0.5]] * width)

    with pytest.raises(CircuitError, match="only"):
        hidden_tree(tree, nested, 2, start=start, generator=seeded())
