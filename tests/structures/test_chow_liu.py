"""Chow-Liu trees: mutual information against counting in plain Python, trees against all spanning trees."""

import itertools
import math
from collections import Counter

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as draw

from pcircuits import EvidenceError, ParameterError, ScopeError
from pcircuits import structures as st
from pcircuits.structures import information
from pcircuits.structures.tables import as_table


def counted(rows, i, j, weights=None):
    """I(i, j) = Σ p(s, t) log p(s, t) / (p(s) p(t)) over the rows that know both, one row after the other."""
    pairs, first, second = Counter(), Counter(), Counter()
    for number, row in enumerate(rows):
        if not (math.isnan(row[i]) or math.isnan(row[j])):
            weight = 1.0 if weights is None else weights[number]
            pairs[row[i], row[j]] += weight
            first[row[i]] += weight
            second[row[j]] += weight
    total = sum(pairs.values())
    return sum(n / total * math.log(n * total / (first[s] * second[t])) for (s, t), n in pairs.items() if n)


def spanning_trees(size):
    """The edges of every spanning tree of a complete graph, by Prüfer's sequences: size^(size - 2) of them."""
    for sequence in itertools.product(range(size), repeat=size - 2):
        yield [tuple(sorted(edge)) for edge in nx.from_prufer_sequence(list(sequence)).edges]


def rows_of(seed, count=40, columns=5, missing=0.0):
    """Integers that depend on each other, and some that are missing."""
    pick = np.random.default_rng(seed)
    hidden = pick.integers(0, 3, (count, 1))
    noise = pick.integers(0, 4, (count, columns))
    x = np.where(pick.random((count, columns)) < 0.6, hidden, noise).astype(float)
    x[pick.random(x.shape) < missing] = math.nan
    return x


@settings(max_examples=30)
@given(draw.integers(0, 2**32), draw.sampled_from([0.0, 0.3, 0.9]), draw.booleans(), draw.sampled_from([1, 5, 1024]))
def test_mutual_information_is_what_counting_gives(seed, missing, weighted, columns):
    x = rows_of(seed, missing=missing)
    weights = np.random.default_rng(seed).random(len(x)) + 0.01 if weighted else None
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(information, "COLUMNS", columns)
        patched.setattr(information, "ROWS", 7)
        found = st.StateInformation()(as_table(x), None if weights is None else torch.tensor(weights))
    for i, j in itertools.product(range(5), repeat=2):
        assert abs(found[i, j].item() - counted(x.tolist(), i, j, weights)) < 1e-12


@settings(max_examples=20)
@given(draw.integers(0, 2**32), draw.sampled_from([0.0, 0.3]))
def test_no_spanning_tree_has_more_information(seed, missing):
    x = rows_of(seed, missing=missing)
    gain = {(i, j): counted(x.tolist(), i, j) for i, j in itertools.combinations(range(5), 2)}
    best = max(sum(gain[edge] for edge in edges) for edges in spanning_trees(5))
    tree = st.chow_liu_tree(x)
    assert nx.is_tree(tree)
    assert abs(sum(gain[tuple(sorted(edge))] for edge in tree.edges) - best) < 1e-12
    for i, j, kept in tree.edges(data="information"):
        assert abs(kept - gain[tuple(sorted((i, j)))]) < 1e-12


def test_a_chain_is_found_in_its_data():
    """Every variable copies the one before it, but for one row in ten."""
    pick = np.random.default_rng(0)
    x = [pick.integers(0, 2, 4000)]
    for _ in range(9):
        x.append(np.where(pick.random(4000) < 0.1, 1 - x[-1], x[-1]))
    shuffled = pick.permutation(10)
    tree = st.chow_liu_tree(np.stack(x, 1)[:, shuffled], variables=[f"x{i}" for i in shuffled])
    assert {frozenset(edge) for edge in tree.edges} == {frozenset((f"x{i}", f"x{i + 1}")) for i in range(9)}


def test_weights_are_repeated_rows():
    x, times = rows_of(1), np.random.default_rng(1).integers(0, 4, 40)
    repeated = st.StateInformation()(as_table(np.repeat(x, times, 0)), None)
    torch.testing.assert_close(
        st.StateInformation()(as_table(x), torch.tensor(times).double()), repeated, atol=1e-13, rtol=0
    )


@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_correlations_of_normal_columns(missing, shift):
    pick = np.random.default_rng(2)
    x = pick.normal(size=(300, 4)) @ pick.normal(size=(4, 4)) + shift
    x[pick.random(x.shape) < missing] = math.nan
    off = ~np.eye(4, dtype=bool)
    want = -0.5 * np.log1p(-(pd.DataFrame(x).corr().to_numpy()[off] ** 2))  # pairwise complete, as pandas does
    found = st.GaussianInformation()(as_table(x), None).numpy()
    np.testing.assert_allclose(found[off], want, rtol=1e-8 if shift else 1e-10)


def test_weighted_correlations():
    x = np.random.default_rng(3).normal(size=(50, 3)) * [1.0, 2.0, 3.0]
    x[:, 2] += x[:, 0]
    times = np.random.default_rng(3).integers(0, 4, 50)
    found = st.GaussianInformation()(as_table(x), torch.tensor(times).double())
    want = -0.5 * math.log1p(-(np.corrcoef(np.repeat(x, times, 0).T)[0, 2] ** 2))
    assert abs(found[0, 2].item() - want) < 1e-12


def test_quantiles_do_not_depend_on_the_scale():
    x = np.random.default_rng(4).normal(size=(200, 3))
    x[:, 1] += x[:, 0]
    stretched = np.exp(x) * [1.0, 10.0, 1e6]
    of = st.QuantileInformation(5)
    torch.testing.assert_close(of(as_table(x), None), of(as_table(stretched), None), atol=0, rtol=0)
    edges = np.sort(x, 0)[[40, 80, 120, 160]]  # 40 rows in each of five bins
    bins = (x[:, None] >= edges).sum(1)
    assert abs(of(as_table(x), None)[0, 1].item() - counted(bins.tolist(), 0, 1)) < 1e-12


def test_columns_that_say_nothing():
    """Constant and missing columns are joined too, and know nothing of the others."""
    x = torch.tensor([[0.0, 3.0, math.nan, 0.0], [1.0, 3.0, math.nan, 1.0], [1.0, 3.0, math.nan, 1.0]])
    for measure in (st.StateInformation(), st.QuantileInformation(3), st.GaussianInformation()):
        tree = st.chow_liu_tree(x, measure)
        assert nx.is_tree(tree)
        assert tree.edges[0, 3]["information"] > 0.5
        assert sorted(gain for *_, gain in tree.edges(data="information"))[:2] == [0.0, 0.0]
    assert list(st.chow_liu_tree([[1], [2]]).nodes) == [0]


def test_labels_are_those_of_the_columns():
    frame = pd.DataFrame({"b": [0, 1, 1, 0], "a": [0, 1, 1, 0], "c": [1, 1, 0, 0]})
    tree = st.chow_liu_tree(frame)
    assert tree.graph["variables"] == ("b", "a", "c") == tuple(tree.nodes)
    assert ("b", "a") in tree.edges
    bytes_of = torch.tensor(frame.to_numpy() * 255, dtype=torch.uint8)
    assert list(st.chow_liu_tree(bytes_of).nodes) == [0, 1, 2]


@pytest.mark.errors
def test_what_is_refused():
    with pytest.raises(EvidenceError, match=r"column 1 holds 0\.5, which is no integer: .* QuantileInformation"):
        st.chow_liu_tree([[0, 0.5], [1, 0.25]])
    with pytest.raises(EvidenceError, match=r"shape \(3,\): it needs B rows and D columns"):
        st.chow_liu_tree([0, 1, 2])
    with pytest.raises(EvidenceError, match=r"data\[1, 0\] is inf"):
        st.chow_liu_tree([[0.0], [math.inf]])
    with pytest.raises(EvidenceError, match="a table of numbers"):
        st.chow_liu_tree("data")
    with pytest.raises(ScopeError, match="2 columns need 2 different labels"):
        st.chow_liu_tree([[0, 1]], variables=["a", "a"])
    with pytest.raises(EvidenceError, match=r"weights have shape \(2,\): 1 rows need"):
        st.chow_liu_tree([[0, 1]], weights=[1, 2])
    with pytest.raises(EvidenceError, match="not all of them zero"):
        st.chow_liu_tree([[0, 1]], weights=[0.0])
    with pytest.raises(ParameterError, match="bins is 1"):
        st.QuantileInformation(1)
