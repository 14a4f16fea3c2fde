"""Input units that start from data, against means and shares by hand; and the structures that they are used in."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import pcircuits as pc
from pcircuits import CircuitError, EvidenceError, ParameterError, ScopeError
from pcircuits import structures as st


@dataclass(frozen=True)
class Unlearnt(pc.families.Normal):
    """A Normal whose author wrote no M-step."""

    expected_statistics = pc.families.AbstractFamily.expected_statistics


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def values_of(units):
    return {name: parameter.value.numpy() for name, parameter in units.parameters.items()}


def test_quantiles_are_equally_many_rows():
    data = torch.tensor(np.random.default_rng(0).permutation(90).astype(float)).reshape(-1, 1)
    leaves = st.fitted_leaves(st.normal_leaves(), data, rows=0.0)
    found = values_of(leaves([0], 3, seeded()))
    np.testing.assert_allclose(found["loc"], [[14.5, 44.5, 74.5]])
    np.testing.assert_allclose(found["scale"], [[np.std(range(30))] * 3])


def test_equal_values_are_shared_out():
    """100 zeros among 3 units: each has its third of them, and the ones are in the last."""
    values = torch.tensor([0.0] * 100 + [1.0] * 20 + [math.nan] * 7, dtype=torch.float64)
    states = st.by_quantiles(0, values, 3, seeded())
    assert torch.bincount(states[:120]).tolist() == [40, 40, 40]
    assert bool((states[100:120] == 2).all())
    again = st.by_quantiles(0, values, 3, seeded(1))
    assert not torch.equal(states, again)


def test_rows_are_added_as_the_column_has_them():
    data = torch.tensor([[0], [0], [1], [2]])
    sharing = st.by_states(torch.tensor([0, 0, 1, 1]))
    leaves = st.fitted_leaves(st.categorical_leaves(3), data, sharing, pseudocount=0.5, rows=2.0)
    counts = np.array([[2.0, 0, 0], [0, 1, 1], [0, 0, 0]]) + 0.5 + 2.0 * np.array([0.5, 0.25, 0.25])
    np.testing.assert_allclose(
        values_of(leaves([0], 3, seeded()))["probs"][0], counts / counts.sum(1, keepdims=True), rtol=1e-12
    )


def test_clusters_of_a_column():
    values = torch.tensor([0.0, 1.0, 50.0, 51.0, math.nan], dtype=torch.float64)
    leaves = st.fitted_leaves(st.normal_leaves(), values.unsqueeze(1), st.by_clusters, rows=0.0)
    assert sorted(values_of(leaves([0], 2, seeded()))["loc"][0].tolist()) == [0.5, 50.5]


def test_chance_keeps_units_near_the_column():
    data = torch.tensor(np.random.default_rng(1).normal(3.0, 2.0, (4000, 1)))
    found = values_of(st.fitted_leaves(st.normal_leaves(), data, st.by_chance)([0], 4, seeded()))
    assert np.abs(found["loc"] - 3.0).max() < 5 * 2.0 / math.sqrt(1000)
    assert np.unique(found["loc"]).size == 4


@pytest.mark.parametrize(
    ("family", "data"),
    [
        (st.bernoulli_leaves(), [0, 1]),
        (st.categorical_leaves(4), [0, 3]),
        (st.discretized_normal_leaves(8), [1, 6]),
        (st.discretized_logistic_leaves(8), [1, 6]),
        (st.random_leaves(pc.families.Poisson(), rate=1.0), [0, 9]),
        (st.random_leaves(pc.families.Exponential(), mean=1.0), [0.05, 9.0]),
        (st.normal_leaves(), [0.5, 2.5]),
    ],
)
def test_every_family_starts_from_data(family, data):
    """The rows are likelier than under what was drawn, and the units are apart."""
    column = torch.tensor(np.random.default_rng(2).choice(data, (200, 1), p=[0.7, 0.3]).astype(float))
    sharing = st.by_states((column[:, 0] == data[1]).long())
    log_probs = [
        pc.Circuit(leaves(["x"], 2, seeded()).sum([0.7, 0.3])).compile(torch.float64).log_prob(column).mean().item()
        for leaves in (family, st.fitted_leaves(family, column, sharing, variables=["x"]))
    ]
    assert log_probs[1] > log_probs[0]


def test_kinds_are_mixed_and_columns_found_by_name():
    def kinds(variables, width, generator):
        made = [
            (st.normal_leaves() if label == "heat" else st.bernoulli_leaves())([label], width, generator)
            for label in variables
        ]
        return pc.concat(made, axis="regions")

    data = {"heat": [1.0, 2.0, 30.0, 40.0], "wet": [0.0, 0.0, 1.0, 1.0]}
    table = torch.tensor(list(data.values()), dtype=torch.float64).T
    leaves = st.fitted_leaves(kinds, table, variables=list(data), pseudocount=0.0, rows=0.0)
    circuit = pc.Circuit(leaves(["wet", "heat"], 2, seeded()).prod().sum([0.5, 0.5]))
    assert circuit.variables == ("wet", "heat")
    mean = circuit.compile(torch.float64).given({"wet": 1.0}).mean()
    np.testing.assert_allclose(mean.detach(), [[1.0, 35.0]])


def test_a_mixture_starts_at_its_clusters():
    """Two clusters of rows, with the same unit for both variables of each."""
    data = torch.tensor([[0.0, 5.0], [1.0, 6.0], [20.0, -5.0], [21.0, -6.0]], dtype=torch.float64)
    clusters = st.cluster_states(data, [[0, 1]], 2, generator=seeded())[:, 0]
    leaves = st.fitted_leaves(st.normal_leaves(), data, st.by_states(clusters), rows=0.0)
    circuit = st.layered(st.factorised(range(2)), leaves, 2, generator=seeded())
    centres = {tuple(column) for column in values_of(circuit.inputs[0])["loc"].T.tolist()}
    assert centres == {(0.5, 5.5), (20.5, -5.5)}
    assert circuit.summary().parameters == 2 * 2 * 2 + 2


def test_a_layered_circuit_starts_nearer_to_its_data():
    pick = np.random.default_rng(3)
    data = torch.tensor(pick.normal(100.0, 5.0, (300, 16)))
    graph = st.quad_graph(4, 4)
    started = st.fitted_leaves(st.normal_leaves(), data)
    plain, fitted = (
        st.layered(graph, leaves, 4, generator=seeded()).compile(torch.float64).log_prob(data).mean().item()
        for leaves in (st.normal_leaves(), started)
    )
    independent = -16 * (math.log(5.0) + 0.5 * math.log(2 * math.pi) + 0.5)
    assert plain < -70_000
    assert fitted > independent - 8  # of the distribution itself, and half a nat for a pixel


@pytest.mark.errors
def test_what_is_refused():
    def make(data, sharing=None, leaves=None, width=2):
        st.fitted_leaves(leaves or st.bernoulli_leaves(), data, sharing)([0], width, seeded())

    with pytest.raises(EvidenceError, match=r"Bernoulli\(\) does not admit 2"):
        make([[2], [0]])
    with pytest.raises(ScopeError, match="no column for 'b': their columns are"):
        st.fitted_leaves(st.bernoulli_leaves(), [[0]])(["b"], 2, seeded())
    with pytest.raises(EvidenceError, match=r"states are integers \(B,\) or \(B, D\), not \(1, 1, 1\)"):
        make([[0]], st.by_states(torch.zeros(1, 1, 1, dtype=torch.int64)))
    with pytest.raises(EvidenceError, match=r"states have shape \(2,\), and column 0 has 1 rows"):
        make([[0]], st.by_states(torch.zeros(2, dtype=torch.int64)))
    with pytest.raises(EvidenceError, match="states are 2 to 2: a variable has 2 units"):
        make([[0]], st.by_states(torch.tensor([2])))
    with pytest.raises(CircuitError, match="only input units that have parameters of their own"):
        make([[0]], leaves=lambda v, k, g: st.bernoulli_leaves()(v, 3, g)[:, :k])
    with pytest.raises(ParameterError, match="has no update for expectation-maximisation"):
        make([[0.5]], leaves=lambda v, k, g: pc.inputs(Unlearnt(), v, {"loc": [[0.0] * k], "scale": 1.0}))
