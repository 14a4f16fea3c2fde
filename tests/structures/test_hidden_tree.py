"""Hidden trees: sums over all states of all latents, starts against counting in plain Python, and what is refused."""

import itertools
import math
from collections import Counter

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as draw

import pcircuits as pc
from pcircuits import CircuitError, EvidenceError, ParameterError, ScopeError
from pcircuits import structures as st


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def probabilities(circuit, rows):
    return circuit.compile(dtype=torch.float64).log_prob(torch.as_tensor(rows, dtype=torch.float64)).exp().detach()


def tables_of(circuit, tree):
    """p(root), {(parent, child): p(child | parent)} and {column: p(x | z)}, from the arrays of a circuit over 0..D-1."""
    (leaves,) = circuit.inputs
    emitted = {label: leaves.parameters["probs"].value[row].numpy() for row, (label,) in enumerate(leaves.variables)}
    *inner, top = circuit.sums
    order = [label for (label,) in leaves.variables]  # the root first, then level by level
    root, edges, waiting = order[0], {}, iter(order[1:])
    by_level = [matrix for level in reversed(inner) for matrix in level.weights.value.numpy()]
    for matrix in by_level:
        child = next(waiting)
        edges[nx.shortest_path(tree, root, child)[-2], child] = matrix
    return top.weights.value.numpy()[0], edges, emitted, root


def summed(tree, prior, edges, emitted, root, row):
    """Σ over the states of all latents, one assignment after the other."""
    width = len(prior)
    total = 0.0
    for states in itertools.product(range(width), repeat=len(tree)):
        term = prior[states[root]] * math.prod(emitted[v][states[v], row[v]] for v in tree)
        total += term * math.prod(matrix[states[a], states[b]] for (a, b), matrix in edges.items())
    return total


def check_sum(tree, width, seed):
    """Against the sum over all states of all latents, for two roots."""
    size = len(tree)
    circuit = st.hidden_tree(tree, st.categorical_leaves(3), width, 2, generator=seeded(seed))
    prior, edges, emitted, root = tables_of(circuit, tree)
    assert len(edges) == size - 1
    rows = np.random.default_rng(seed).integers(0, 3, (3, size))
    found = probabilities(circuit, rows)
    for row, of_roots in zip(rows, found, strict=True):
        for number in range(2):
            want = summed(tree, prior[number], edges, emitted, root, row)
            assert abs(of_roots[number].item() - want) < 1e-12 * want


@settings(max_examples=15)
@given(draw.integers(1, 5), draw.integers(1, 3), draw.integers(0, 1000))
def test_it_is_the_sum_over_all_latents(size, width, seed):
    check_sum(nx.random_labeled_tree(size, seed=seed), width, seed)


@pytest.mark.parametrize(
    "tree", [nx.path_graph(7), nx.balanced_tree(2, 2), nx.Graph([(5, 0), (0, 4), (4, 6), (4, 2), (2, 3), (0, 1)])]
)
def test_children_belong_to_their_parents(tree):
    """Several nodes of a level that have children, and some that have none."""
    check_sum(tree, 2, 0)


def test_it_is_as_shallow_as_it_can_be():
    """The root is in the middle: of a chain of 9, four edges below the root, so five dense sums on a way down."""
    chain = st.hidden_tree(nx.path_graph(9), st.bernoulli_leaves(), 2, generator=seeded())
    assert len(chain.sums) == 5
    assert sum(array.weights.shape.numel() for array in chain.sums) == 8 * 4 + 2
    star = st.hidden_tree(nx.star_graph(50), st.bernoulli_leaves(), 2, generator=seeded())
    assert len(star.sums) == 2
    long = st.hidden_tree(nx.path_graph(3000), st.bernoulli_leaves(), 1, generator=seeded())
    assert len(long.sums) == 1501


def test_one_state_is_the_independent_distribution():
    circuit = st.hidden_tree(nx.path_graph(4), st.bernoulli_leaves(), 1, generator=seeded(3))
    (leaves,) = circuit.inputs
    on = {label: leaves.parameters["probs"].value[row, 0].item() for row, (label,) in enumerate(leaves.variables)}
    rows = list(itertools.product([0, 1], repeat=4))
    want = [math.prod(on[v] if row[v] else 1 - on[v] for v in range(4)) for row in rows]
    np.testing.assert_allclose(probabilities(circuit, rows).numpy(), want, rtol=1e-12)


def test_cells_share_a_latent():
    """Two cells of two columns: p(x) = Σ p(z) p(w | z) p(x_a | z) p(x_c | z) p(x_b | w) p(x_d | w)."""
    tree = nx.Graph([("first", "second")], variables=["a", "b", "c", "d"])
    nx.set_node_attributes(tree, {"first": ["a", "c"], "second": ["d", "b"]}, "scope")
    circuit = st.hidden_tree(tree, st.categorical_leaves(2), 3, generator=seeded(4))
    assert circuit.variables == ("a", "b", "c", "d")
    (leaves,), (edge, top) = circuit.inputs, circuit.sums
    p = {label: leaves.parameters["probs"].value[row].numpy() for row, (label,) in enumerate(leaves.variables)}
    want = np.einsum(
        "z,zw,za,zc,wb,wd->abcd",
        top.weights.value[0, 0],
        edge.weights.value[0],
        p["a"],
        p["c"],
        p["b"],
        p["d"],
    )
    rows = list(itertools.product([0, 1], repeat=4))
    np.testing.assert_allclose(probabilities(circuit, rows).numpy(), want.ravel(), rtol=1e-12)


def test_the_order_of_columns():
    tree = nx.Graph([("b", "c"), ("c", "a")])
    assert st.hidden_tree(tree, st.bernoulli_leaves(), 2, generator=seeded()).variables == ("b", "c", "a")
    learnt = st.chow_liu_tree([[0, 1, 1], [1, 0, 1], [0, 1, 0]], variables=["z", "y", "x"])
    assert st.hidden_tree(learnt, st.bernoulli_leaves(), 2, generator=seeded()).variables == ("z", "y", "x")
    numbers = nx.Graph([(2, 0), (0, 1)])
    assert st.hidden_tree(numbers, st.bernoulli_leaves(), 2, generator=seeded()).variables == (0, 1, 2)


def shares(pairs, a, width):
    """(n_st + a) / (n_s + K a), from a list of pairs."""
    n = Counter(pairs)
    table = [[n[s, t] + a for t in range(width)] for s in range(width)]
    return [[value / sum(row) for value in row] for row in table]


def test_counted_starts_against_counting():
    """Weights and categorical leaves, by plain Python, with values that are missing and a state that no row has."""
    pick = np.random.default_rng(5)
    data = pick.integers(0, 3, (30, 3)).astype(float)
    data[pick.random(data.shape) < 0.2] = math.nan
    latents = pick.integers(0, 2, (30, 3))
    start = st.counted_start(data, torch.tensor(latents), pseudocount=0.25, rows=2.0)
    tree = nx.path_graph(3)
    circuit = st.hidden_tree(tree, st.categorical_leaves(3), 3, start=start, generator=seeded())
    (prior,), edges, emitted, root = tables_of(circuit, tree)
    assert root == 1
    n = Counter(latents[:, 1].tolist())
    np.testing.assert_allclose(prior, [(n[s] + 0.25) / 30.75 for s in range(3)], rtol=1e-12)
    for (above, below), matrix in edges.items():
        pairs = list(zip(latents[:, above].tolist(), latents[:, below].tolist(), strict=True))
        np.testing.assert_allclose(matrix, shares(pairs, 0.25, 3), rtol=1e-12)
    for column, table in emitted.items():
        known = [(z, int(x)) for z, x in zip(latents[:, column], data[:, column], strict=True) if x == x]
        whole = Counter(x for _, x in known)
        for state in range(3):
            here = Counter(x for z, x in known if z == state)
            counts = [here[x] + 2.0 * whole[x] / len(known) + 0.25 for x in range(3)]
            np.testing.assert_allclose(table[state], [c / sum(counts) for c in counts], rtol=1e-12)


def test_counting_what_is_observed_is_the_chow_liu_distribution():
    """With the data as latents, the tree's own distribution: p(x) = p(x_r) Π p(x_v | x_parent)."""
    pick = np.random.default_rng(6)
    x = pick.integers(0, 2, (200, 4))
    x[:, 1:] = np.where(pick.random((200, 3)) < 0.3, 1 - x[:, :3], x[:, :3])
    tree = st.chow_liu_tree(x)
    start = st.counted_start(x, torch.tensor(x), pseudocount=0.0, rows=0.0)
    circuit = st.hidden_tree(tree, st.categorical_leaves(2), 2, start=start, generator=seeded())
    share = {column: np.bincount(x[:, column], minlength=2) / 200 for column in range(4)}
    rows = list(itertools.product([0, 1], repeat=4))
    want = []
    for row in rows:
        p = math.prod(share[v][row[v]] ** (1 - tree.degree[v]) for v in range(4))
        want.append(p * math.prod(((x[:, a] == row[a]) & (x[:, b] == row[b])).mean() for a, b in tree.edges))
    np.testing.assert_allclose(probabilities(circuit, rows).numpy(), want, rtol=1e-12, atol=1e-15)


def test_states_that_are_not_known_count_nothing():
    """With -1 in place of the latents of the last rows, weights and leaves are those of the rest."""
    data = torch.tensor([[0, 1], [1, 1], [1, 0], [0, 0]])
    latents = torch.tensor([[0, 1], [1, 0], [1, 1], [-1, 0]])
    start = st.counted_start(data, latents, pseudocount=0.0, rows=0.0)
    circuit = st.hidden_tree(nx.path_graph(2), st.categorical_leaves(2), 2, start=start, generator=seeded())
    (prior,), edges, emitted, _ = tables_of(circuit, nx.path_graph(2))
    np.testing.assert_allclose(prior, [1 / 3, 2 / 3])
    np.testing.assert_allclose(edges[0, 1], [[0.0, 1.0], [0.5, 0.5]])
    np.testing.assert_allclose(emitted[0], [[1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(emitted[1], [[0.5, 0.5], [0.5, 0.5]])


def test_weights_of_a_start_are_repeated_rows():
    pick = np.random.default_rng(10)
    data, latents = torch.tensor(pick.normal(size=(20, 2))), torch.tensor(pick.integers(0, 2, (20, 2)))
    times = torch.tensor(pick.integers(0, 4, 20))
    starts = (
        st.counted_start(data, latents, weights=times),
        st.counted_start(data.repeat_interleave(times, 0), latents.repeat_interleave(times, 0)),
    )
    first, second = (
        st.hidden_tree(nx.path_graph(2), st.normal_leaves(), 2, start=start, generator=seeded()) for start in starts
    )
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a.value, b.value, rtol=1e-10, atol=1e-12)


def test_normal_leaves_start_at_the_means_of_their_rows():
    data = torch.tensor([[1.0], [2.0], [6.0], [8.0], [8.0], [math.nan]], dtype=torch.float64)
    latents = torch.tensor([[0], [0], [1], [1], [1], [0]])
    start = st.counted_start(data, latents, pseudocount=0.0, rows=0.0)
    circuit = st.hidden_tree(nx.path_graph(1), st.normal_leaves(), 3, start=start, generator=seeded())
    (leaves,) = circuit.inputs
    loc, scale = (leaves.parameters[name].value[0] for name in ("loc", "scale"))
    np.testing.assert_allclose(loc[:2], [1.5, 22 / 3], rtol=1e-12)
    np.testing.assert_allclose(scale[:2], [0.5, np.std([6, 8, 8])], rtol=1e-12)
    plain = st.hidden_tree(nx.path_graph(1), st.normal_leaves(), 3, generator=seeded()).inputs[0]
    assert loc[2] == plain.parameters["loc"].value[0, 2]  # no row has the third state, and nothing was added
    np.testing.assert_allclose(circuit.sums[0].weights.value[0, 0], [0.5, 0.5, 0.0])


def test_a_scale_is_no_smaller_than_the_rounding_of_the_data():
    """Tenths: rounding them moved numbers by 0.1 / sqrt(12)."""
    data = torch.tensor([[0.1], [0.1], [0.4], [0.5]], dtype=torch.float64)
    start = st.counted_start(data, torch.tensor([[0], [0], [1], [1]]), rows=0.0)
    circuit = st.hidden_tree(nx.path_graph(1), st.normal_leaves(), 2, start=start, generator=seeded())
    scale = circuit.inputs[0].parameters["scale"].value[0]
    np.testing.assert_allclose(scale, [0.1 / math.sqrt(12), 0.05], rtol=1e-9)


def test_roots_start_from_their_classes():
    data, latents = torch.tensor([[0], [1], [1], [0]]), torch.tensor([[0], [1], [1], [1]])
    start = st.counted_start(data, latents, classes=torch.tensor([0, 0, 1, 1]), pseudocount=0.5)
    circuit = st.hidden_tree(nx.path_graph(1), st.bernoulli_leaves(), 2, 3, start, generator=seeded())
    np.testing.assert_allclose(circuit.sums[0].weights.value[0], [[0.5, 0.5], [1 / 6, 5 / 6], [0.5, 0.5]])


def test_frozen_units_stay_as_they_are():
    def indicators(variables, width, generator):
        return pc.Indicator(list(variables), torch.arange(width).expand(len(variables), width))

    start = st.counted_start([[0, 1], [1, 1]], torch.tensor([[0, 1], [1, 1]]), pseudocount=0.0)
    circuit = st.hidden_tree(nx.path_graph(2), indicators, 2, start=start, generator=seeded())
    assert circuit.check().deterministic
    np.testing.assert_allclose(probabilities(circuit, [[0, 1], [1, 1], [0, 0], [1, 0]]), [0.5, 0.5, 0.0, 0.0])


def test_clusters_of_windows():
    """Two kinds of image, apart by more than what varies within them."""
    pick = np.random.default_rng(7)
    kind = pick.integers(0, 2, 60)
    images = torch.tensor(200.0 * kind[:, None] + pick.normal(size=(60, 12)))
    images[0, 0] = math.nan
    states = st.cluster_states(images, st.windows(3, 4, 3), 2, generator=seeded(), rows=40)
    assert states.shape == (60, 12)
    for column in states.T.long():
        assert len({(int(k), int(z)) for k, z in zip(kind, column, strict=True)}) == 2
    again = st.cluster_states(images, st.windows(3, 4, 3), 2, generator=seeded(), rows=40)
    assert torch.equal(states, again)
    same = st.cluster_states(torch.ones(5, 2), [[0], [1]], 4, generator=seeded())
    assert bool((same == same[:1]).all())


def test_centres_are_the_means_of_their_points():
    points = torch.tensor(np.random.default_rng(8).normal(size=(200, 3)))
    centres = st.clusters.k_means(points, 5, generator=seeded())
    distance = ((points[:, None] - centres) ** 2).sum(-1)
    for number in range(5):
        mine = points[distance.argmin(1) == number]
        torch.testing.assert_close(mine.mean(0), centres[number])


def test_neighbourhoods_are_counted_in_edges():
    tree = nx.path_graph("abcde")
    assert st.neighbourhoods(tree, 0) == [{v: 1.0} for v in range(5)]
    middle = st.neighbourhoods(tree, 2, spread=2.0)[2]
    assert middle == {v: math.exp(-((v - 2) ** 2) / 8) for v in range(5)}


def test_windows_are_squares_cut_off_at_the_border():
    assert st.windows(3, 3, 1) == [{v: 1.0} for v in range(9)]
    corner = st.windows(4, 6, 3, spread=0.5)[17]  # at row 2 and column 5, the last
    assert corner == {r * 6 + c: math.exp(-2 * ((r - 2) ** 2 + (c - 5) ** 2)) for r in (1, 2, 3) for c in (4, 5)}
    assert [len(window) for window in st.windows(3, 3, 5)] == [9] * 9


def test_weights_of_columns_are_scales():
    """A column that is weighted by 0 says nothing."""
    pick = np.random.default_rng(9)
    x = torch.tensor(pick.normal(size=(50, 2)) * [1.0, 100.0])
    alone = st.cluster_states(x, [[0]], 3, generator=seeded())
    assert torch.equal(st.cluster_states(x, [{0: 1.0, 1: 0.0}], 3, generator=seeded()), alone)
    scaled = st.cluster_states(x * torch.tensor([3.0, 0.5]), [[0, 1]], 3, generator=seeded())
    assert torch.equal(st.cluster_states(x, [{0: 3.0, 1: 0.5}], 3, generator=seeded()), scaled)


@pytest.mark.errors
def test_what_is_no_tree():
    def build(tree):
        st.hidden_tree(tree, st.bernoulli_leaves(), 2, generator=seeded())

    with pytest.raises(ScopeError, match="falls into 2 parts: join them by edges"):
        build(nx.Graph([(0, 1), (2, 3)]))
    with pytest.raises(ScopeError, match="graph of 3 nodes and 3 edges is no tree: it has a cycle"):
        build(nx.cycle_graph(3))
    with pytest.raises(ScopeError, match=r"networkx\.Graph without directions, not on a DiGraph"):
        build(nx.DiGraph([(0, 1)]))
    with pytest.raises(ScopeError, match="the graph has none"):
        build(nx.Graph())
    with pytest.raises(ScopeError, match=r"node \(0, 1\) needs to be a column, or to have columns as its `scope`"):
        build(nx.Graph([((0, 1), 2)]))
    overlapping = nx.Graph([("p", "q")])
    nx.set_node_attributes(overlapping, {"p": [0, 1], "q": [1]}, "scope")
    with pytest.raises(ScopeError, match="column 1 is in the nodes 'p' and 'q'"):
        build(overlapping)
    nx.set_node_attributes(overlapping, {"p": [0, 1], "q": []}, "scope")
    with pytest.raises(ScopeError, match="the `scope` of node 'q' is empty"):
        build(overlapping)


@pytest.mark.errors
def test_starts_that_do_not_fit():
    def build(data, latents, leaves=None, roots=1, **options):
        start = st.counted_start(data, torch.tensor(latents), **options)
        st.hidden_tree(nx.path_graph(2), leaves or st.categorical_leaves(2), 2, roots, start, generator=seeded())

    with pytest.raises(EvidenceError, match=r"latents have shape \(1, 2\) .*: 2 rows need integers \(2, N\)"):
        build([[0, 1], [1, 1]], [[0, 1]])
    with pytest.raises(EvidenceError, match="latents are given for 3 nodes, and the tree has 2"):
        build([[0, 1]], [[0, 1, 1]])
    with pytest.raises(EvidenceError, match="the data have 3 columns, and the tree has 2"):
        build([[0, 1, 1]], [[0, 1]])
    with pytest.raises(EvidenceError, match=r"latents of node 1 are 2 to 2: they are integers 0\.\.1 here"):
        build([[0, 1]], [[0, 2]])
    with pytest.raises(EvidenceError, match=r"Categorical\(.*\) does not admit 2, which is in the data"):
        build([[0, 2]], [[0, 1]])
    with pytest.raises(EvidenceError, match=r"classes have shape \(2,\)"):
        build([[0, 1]], [[0, 1]], classes=torch.tensor([0, 1]))
    with pytest.raises(EvidenceError, match=r"classes are 1 to 1: they are integers 0\.\.0 here"):
        build([[0, 1]], [[0, 1]], classes=torch.tensor([1]))
    mixed = lambda v, k, g: st.bernoulli_leaves()(v, 3, g)[:, :k]  # noqa: E731
    with pytest.raises(CircuitError, match="only input units that have parameters of their own start from data"):
        build([[0, 1]], [[0, 1]], leaves=mixed)
    with pytest.raises(ScopeError, match=r"group 1 is \[3\]: it needs one or more of the columns 0\.\.1"):
        st.cluster_states([[0, 1]], [[0], [3]], 2, generator=seeded())
    with pytest.raises(ParameterError, match="spread is 0: it must be a number > 0"):
        st.windows(2, 2, spread=0)
    with pytest.raises(ParameterError, match="states is 0"):
        st.cluster_states([[0, 1]], [[0]], 0, generator=seeded())
