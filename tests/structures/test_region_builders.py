"""Builders of region graphs: counted by hand at small sizes, and lawful at any size."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as draw

from pcircuits import ParameterError, ScopeError
from pcircuits import structures as st

SIDES = draw.integers(1, 12)


def counts(graph):
    """Regions, partitions and leaves."""
    return len(graph.scopes), sum(map(len, graph.partitions.values())), len(graph.leaves)


@pytest.mark.parametrize(
    ("size", "quad_graph", "quad_tree", "binary"),
    [
        ((1, 1), (1, 0, 1), (1, 0, 1), (1, 0, 1)),
        ((1, 3), (5, 2, 3), (5, 2, 3), (5, 2, 3)),
        ((2, 2), (9, 6, 4), (5, 1, 4), (7, 3, 4)),
        # the root, its halves (2), the quarters 2 x 2 and 2 x 1, the halves (4) of the one and the cells (6)
        ((2, 3), (13, 8, 6), (9, 3, 6), (11, 5, 6)),
        # the root, its halves (4), the quarters 2 x 2, 2 x 1 and 1 x 2, the halves (4) of the first and the cells (9)
        ((3, 3), (21, 14, 9), (13, 4, 9), (17, 8, 9)),
        # the root, its halves (4), the quarters (4), their halves (16) and the cells (16)
        ((4, 4), (41, 30, 16), (21, 5, 16), (31, 15, 16)),
    ],
)
def test_counted_by_hand(size, quad_graph, quad_tree, binary):
    assert counts(st.quad_graph(*size)) == quad_graph
    assert counts(st.quad_tree(*size)) == quad_tree
    assert counts(st.binary_quad_tree(*size)) == binary


def test_the_quarters_are_shared_by_both_splits():
    graph, (top, bottom, left, right) = st.quad_graph(4, 4), ((0, 0, 2, 4), (2, 0, 4, 4), (0, 0, 4, 2), (0, 2, 4, 4))
    assert graph.root == (0, 0, 4, 4)
    assert graph.partitions[graph.root] == ((top, bottom), (left, right))
    first, second, third, fourth = (0, 0, 2, 2), (0, 2, 2, 4), (2, 0, 4, 2), (2, 2, 4, 4)
    assert graph.partitions[top] == ((first, second),)
    assert graph.partitions[bottom] == ((third, fourth),)
    assert graph.partitions[left] == ((first, third),)
    assert graph.partitions[right] == ((second, fourth),)
    assert graph.scopes[second] == {2, 3, 6, 7}


def test_a_border_cuts_patches_off():
    graph = st.quad_graph(28, 28)
    assert graph.partitions[st.Patch(0, 0, 28, 28)][0] == ((0, 0, 16, 28), (16, 0, 28, 28))
    assert graph.partitions[st.Patch(16, 16, 28, 28)][1] == ((16, 16, 28, 24), (16, 24, 28, 28))
    assert graph.partitions[st.Patch(24, 16, 28, 24)] == (((24, 16, 28, 20), (24, 20, 28, 24)),)
    assert st.quad_tree(5, 3).partitions[st.Patch(0, 0, 5, 3)] == (((0, 0, 4, 3), (4, 0, 5, 3)),)


@settings(max_examples=30)
@given(SIDES, SIDES)
def test_patches_of_any_size(height, width):
    for make in (st.quad_graph, st.quad_tree, st.binary_quad_tree):
        graph = make(height, width)
        assert graph.variables == tuple(range(height * width))
        assert len(graph.leaves) == height * width
        for patch, scope in graph.scopes.items():
            rows, columns = range(patch.top, patch.bottom), range(patch.left, patch.right)
            assert scope == {r * width + c for r, c in itertools.product(rows, columns)}
        most = {st.quad_graph: 2, st.quad_tree: 1, st.binary_quad_tree: 1}[make]
        arity = {st.quad_graph: 2, st.quad_tree: 4, st.binary_quad_tree: 2}[make]
        assert max(map(len, graph.partitions.values())) <= most
        assert max((len(parts) for split in graph.partitions.values() for parts in split), default=2) <= arity


@settings(max_examples=30)
@given(SIDES, SIDES)
def test_trees_are_trees_and_transposing_swaps_the_sides(height, width):
    for make in (st.quad_tree, st.binary_quad_tree):
        graph = make(height, width)
        parts = [part for split in graph.partitions.values() for parts in split for part in parts]
        assert len(parts) == len(set(parts)) == len(graph.scopes) - 1
    mirrored = {(p.left, p.top, p.right, p.bottom) for p in st.quad_graph(height, width).scopes}
    assert mirrored == set(st.quad_graph(width, height).scopes)


@settings(max_examples=30)
@given(draw.integers(2, 20), draw.integers(1, 6), draw.integers(1, 4), draw.integers(0, 2**32))
def test_random_binary_trees(size, depth, repetitions, seed):
    labels = [f"x{i}" for i in range(size)]
    graph = st.random_binary_tree(labels, depth, repetitions, torch.Generator().manual_seed(seed))
    assert graph.variables == tuple(labels)
    assert graph.root == "root"
    assert len(graph.partitions["root"]) == repetitions
    for region, split in graph.partitions.items():
        for left, right in split:
            assert 0 <= len(graph.scopes[right]) - len(graph.scopes[left]) <= 1
        if not split:
            assert len(graph.scopes[region]) == 1 or region[1] == depth
    trees = [[graph.scopes[r] for r in graph.leaves if r[0] == n] for n in range(repetitions)]
    assert all(sorted(label for scope in tree for label in scope) == sorted(labels) for tree in trees)
    again = st.random_binary_tree(labels, depth, repetitions, torch.Generator().manual_seed(seed))
    assert again == graph


def test_random_binary_trees_counted_by_hand():
    assert counts(st.random_binary_tree(range(8), 2, 3, torch.Generator().manual_seed(0))) == (19, 9, 12)
    assert counts(st.random_binary_tree(range(5), 9, 2, torch.Generator().manual_seed(0))) == (17, 8, 10)
    halves = {
        st.random_binary_tree(range(4), 1, 1, torch.Generator().manual_seed(seed)).scopes[0, 1, 0] for seed in range(60)
    }
    assert len(halves) == 6  # of 4 over 2


def test_chains():
    graph = st.chain(["c", "a", "b"])
    assert graph.variables == ("c", "a", "b")
    assert counts(graph) == (5, 2, 3)
    assert graph.partitions["from", 0] == ((("at", 0), ("from", 1)),)
    assert graph.scopes["from", 1] == {"a", "b"}
    assert counts(st.chain("alone")) == (1, 0, 1)
    assert st.chain([2, 0, 1]).variables == (2, 0, 1)


@pytest.mark.errors
def test_sizes_and_labels_that_do_not_fit():
    for make in (st.quad_graph, st.quad_tree, st.binary_quad_tree):
        with pytest.raises(ParameterError, match="height is 0: it must be an integer >= 1"):
            make(0, 4)
        with pytest.raises(ParameterError, match=r"width is 2\.5: it must be an integer >= 1"):
            make(4, 2.5)
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(ParameterError, match="depth is 0"):
        st.random_binary_tree(range(4), 0, 1, generator)
    with pytest.raises(ParameterError, match="repetitions is 0"):
        st.random_binary_tree(range(4), 1, 0, generator)
    with pytest.raises(ScopeError, match="two variables or more, not only 'a'"):
        st.random_binary_tree(["a"], 1, 1, generator)
    with pytest.raises(ScopeError, match="no variables were given"):
        st.random_binary_tree([], 1, 1, generator)
    with pytest.raises(ScopeError, match=r"names \{3\} more than once"):
        st.random_binary_tree([3, 1, 3], 1, 1, generator)
    with pytest.raises(ScopeError, match=r"names \{'a'\} more than once"):
        st.chain(["a", "b", "a"])


@settings(max_examples=30)
@given(draw.integers(1, 6), draw.integers(1, 6), draw.integers(1, 4))
def test_poon_domingos_has_every_rectangle(height, width, step):
    graph = st.poon_domingos(height, width, step)
    downs = sorted({0, height, *range(0, height, step)})
    acrosses = sorted({0, width, *range(0, width, step)})
    rectangles = {
        (top, left, bottom, right)
        for top, bottom in itertools.combinations(downs, 2)
        for left, right in itertools.combinations(acrosses, 2)
    }
    assert set(graph.scopes) == rectangles
    for patch, split in graph.partitions.items():
        inside = [cut for cut in downs if patch.top < cut < patch.bottom]
        inside += [cut for cut in acrosses if patch.left < cut < patch.right]
        assert len(split) == len(inside)


def test_poon_domingos_in_finer_and_finer_steps():
    graph = st.poon_domingos(4, 4, [2, 1])
    assert len(graph.leaves) == 16
    assert counts(graph) == (9 + 4 * 8, 6 + 4 * 6, 16)  # 9 coarse rectangles; each of 4 squares has 8 smaller ones
    uneven = st.poon_domingos(6, 1, [3, 2])  # cuts of the second step are at 2 and 4, counted from the top
    assert {(patch.top, patch.bottom) for patch in uneven.leaves} == {(0, 2), (2, 3), (3, 4), (4, 6)}
    coarse = st.poon_domingos(4, 4, 2)
    assert {len(coarse.scopes[leaf]) for leaf in coarse.leaves} == {4}
    assert counts(st.poon_domingos(3, 1, 5)) == (1, 0, 1)


def test_factorised_is_one_region():
    graph = st.factorised(["b", "a"])
    assert counts(graph) == (1, 0, 1)
    assert graph.variables == ("b", "a")
    assert st.factorised(range(3)).variables == (0, 1, 2)


@pytest.mark.errors
def test_steps_that_do_not_fall():
    for steps in ([], [1, 2], [2, 2]):
        with pytest.raises(ParameterError, match="they fall, from the coarsest to the finest"):
            st.poon_domingos(4, 4, steps)
    with pytest.raises(ParameterError, match="a step is 0"):
        st.poon_domingos(4, 4, 0)
    with pytest.raises(ScopeError, match="more than once"):
        st.factorised(["a", "a"])
