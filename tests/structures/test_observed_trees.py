"""Trees over the columns themselves and mixtures of them, against counting and other ways to learn the same."""

import itertools
import math
from collections import Counter

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as draw

from pcircuits import EvidenceError, ParameterError, ScopeError
from pcircuits import structures as st


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def rows_of(seed, count=60, columns=4, missing=0.0):
    """Integers 0..2, the first column only 0..1, that depend on each other."""
    pick = np.random.default_rng(seed)
    hidden = pick.integers(0, 3, (count, 1))
    x = np.where(pick.random((count, columns)) < 0.6, hidden, pick.integers(0, 3, (count, columns))).astype(float)
    x[:, 0] = x[:, 0].clip(max=1)
    x[0] = [1, 2, 2, 2][:columns]
    x[1:][pick.random((count - 1, columns)) < missing] = math.nan
    return x


def log_likelihoods(circuit, x):
    return circuit.compile(torch.float64).log_prob(torch.tensor(x)).detach().numpy()


def by_hand(tree, x, weights, a):
    """log p of rows, from weighted counts of pairs, one row after the other; the root is the tree's centre."""
    sizes = [int(np.nanmax(column)) + 1 for column in x.T]
    root = min(nx.center(tree))
    n = Counter()
    for row, weight in zip(x.tolist(), weights, strict=True):
        n.update({(root, row[root]): weight} if row[root] == row[root] else {})
        for above, below in nx.bfs_edges(tree, root):
            if row[above] == row[above] and row[below] == row[below]:
                n[above, below, row[above], row[below]] += weight
    found = []
    for row in itertools.product(*map(range, sizes)):
        total = sum(n[root, s] + a for s in range(sizes[root]))
        value = math.log((n[root, row[root]] + a) / total)
        for above, below in nx.bfs_edges(tree, root):
            counts = [n[above, below, row[above], t] + a for t in range(sizes[below])]
            value += math.log(counts[row[below]] / sum(counts))
        found.append((row, value))
    return found


@settings(max_examples=15)
@given(draw.integers(0, 2**32), draw.sampled_from([0.0, 0.3]), draw.booleans())
def test_the_distribution_on_a_tree_is_counted(seed, missing, weighted):
    x = rows_of(seed, missing=missing)
    weights = np.random.default_rng(seed).random(len(x)) + 0.1 if weighted else np.ones(len(x))
    tree = nx.random_labeled_tree(4, seed=seed)
    circuit = st.observed_tree(tree, x, weights=weights if weighted else None, pseudocount=0.5)
    assert circuit.check().deterministic
    assert circuit.check().normalised
    rows, want = zip(*by_hand(tree, x, weights.tolist(), 0.5), strict=True)
    np.testing.assert_allclose(log_likelihoods(circuit, np.array(rows, float)), want, rtol=1e-11)
    assert abs(np.exp(want).sum() - 1) < 1e-12


def test_no_tree_is_more_likely_than_that_of_chow_and_liu():
    x = rows_of(3)
    best = log_likelihoods(st.observed_tree(st.chow_liu_tree(x), x, pseudocount=0.0), x).mean()
    for sequence in itertools.product(range(4), repeat=2):
        other = st.observed_tree(nx.from_prufer_sequence(list(sequence)), x, pseudocount=0.0)
        assert log_likelihoods(other, x).mean() < best + 1e-12


def test_the_most_probable_row():
    x = rows_of(4)
    circuit = st.observed_tree(st.chow_liu_tree(x), x)
    found = circuit.compile(torch.float64).map()
    assert bool(found.exact)
    rows, values = zip(*by_hand(st.chow_liu_tree(x), x, [1.0] * len(x), 0.1), strict=True)
    assert tuple(found.assignment.tolist()) == rows[int(np.argmax(values))]


def test_states_that_no_row_has():
    """Of two columns that are always 0, with three states each: (4 + 1/2) / (4 + 3/2) twice."""
    x = np.zeros((4, 2))
    circuit = st.observed_tree(nx.path_graph(2), x, states=3, pseudocount=0.5)
    np.testing.assert_allclose(np.exp(log_likelihoods(circuit, x[:1])), (4.5 / 5.5) ** 2)
    assert np.isfinite(log_likelihoods(circuit, np.array([[2.0, 1.0]]))).all()
    alone = st.observed_tree(nx.path_graph(2), x)
    assert log_likelihoods(alone, np.array([[0.0, 1.0]])) == -math.inf


def test_one_component_is_a_tree():
    x = rows_of(5)
    one = st.mixture_of_trees(x, 1, generator=seeded())
    np.testing.assert_allclose(
        log_likelihoods(one, x), log_likelihoods(st.observed_tree(st.chow_liu_tree(x), x), x), rtol=1e-12
    )


def test_two_trees_are_told_apart():
    """Six columns in a ring: some of the rows copy along every other edge, the others along the rest."""
    pick = np.random.default_rng(6)
    kind = (pick.random(3000) < 0.3).astype(int)
    x = pick.integers(0, 2, (3000, 6)).astype(float)
    for pair in range(3):
        source, target = 2 * pair, np.where(kind == 0, 2 * pair + 1, (2 * pair - 1) % 6)
        x[range(3000), target] = np.where(pick.random(3000) < 0.02, 1 - x[:, source], x[:, source])
    one = st.mixture_of_trees(x, 1, generator=seeded())
    tried = [st.mixture_of_trees(x, 2, generator=seeded(seed)) for seed in range(3)]  # some end in another maximum
    two = max(tried, key=lambda circuit: log_likelihoods(circuit, x).mean())
    gains = []  # over an edge of the ring, of which a tree has five: three of one kind, and two of the other
    for share in (0.7, 0.3):
        agree = share * 0.98 + (1 - share) * 0.5
        gains.append(math.log(2) + agree * math.log(agree) + (1 - agree) * math.log(1 - agree))
    assert abs(log_likelihoods(one, x).mean() - (3 * gains[0] + 2 * gains[1] - 6 * math.log(2))) < 0.05
    noise = -(0.02 * math.log(0.02) + 0.98 * math.log(0.98))
    kinds = -(0.3 * math.log(0.3) + 0.7 * math.log(0.7))
    assert log_likelihoods(two, x).mean() > -3 * math.log(2) - 3 * noise - kinds  # three free columns, and the kind
    np.testing.assert_allclose(sorted(two.root.weights.value.flatten().tolist()), [0.3, 0.7], atol=0.05)


def test_more_sweeps_are_never_less_likely():
    """Expectation-maximisation, with so few pseudocounts that they do not matter."""
    x = rows_of(7, count=200, missing=0.0)
    values = [
        log_likelihoods(
            st.mixture_of_trees(x, 3, sweeps=sweeps, pseudocount=1e-9, tolerance=0.0, generator=seeded(1)), x
        ).mean()
        for sweeps in (1, 2, 3, 5, 8, 13)
    ]
    assert np.diff(values).min() > -1e-9
    assert values[-1] > values[0] + 1e-3


def test_missing_values_are_summed_out():
    x = rows_of(8, missing=0.3)
    circuit = st.mixture_of_trees(x, 2, variables=["a", "b", "c", "d"], generator=seeded())
    assert circuit.variables == ("a", "b", "c", "d")
    assert np.isfinite(log_likelihoods(circuit, x)).all()


@pytest.mark.errors
def test_what_is_refused():
    with pytest.raises(EvidenceError, match=r"data\[0, 1\] is -1.0: it must be an integer from 0"):
        st.observed_tree(nx.path_graph(2), [[0.0, -1.0]])
    with pytest.raises(EvidenceError, match=r"data\[0, 1\] is 2: it must be an integer in 0..1"):
        st.observed_tree(nx.path_graph(2), [[0, 2]], states=2)
    with pytest.raises(EvidenceError, match="the data have 3 columns, and the tree has 2 nodes"):
        st.observed_tree(nx.path_graph(2), [[0, 1, 1]])
    with pytest.raises(ScopeError, match="has a cycle"):
        st.observed_tree(nx.cycle_graph(3), [[0, 1, 1]])
    with pytest.raises(ParameterError, match="components is 0"):
        st.mixture_of_trees([[0, 1]], 0, generator=seeded())
    with pytest.raises(EvidenceError, match="which is no integer"):
        st.mixture_of_trees([[0.5, 1]], 1, generator=seeded())
