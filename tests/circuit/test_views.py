"""Views of a circuit: arrays, units, edges, children and parents, through wiring."""

import pytest
import torch
from hypothesis import given, settings

import pcircuits as pc
from pcircuits.circuit.circuit import fold, topological
from pcircuits.circuit.units import Wiring
from pcircuits.testing.strategies import circuits


@pytest.fixture
def diamond():
    """Two products that share a leaf, below one sum."""
    a = pc.Bernoulli("a", 0.5)
    b = pc.Bernoulli("b", [0.1, 0.9])
    left, right = a * b[0, 0], a * b[0, 1]
    root = 0.3 * left + 0.7 * right
    return a, b, left, right, pc.Circuit(root)


def test_arrays_by_kind_children_first(diamond):
    a, b, left, right, circuit = diamond
    assert set(circuit.inputs) == {a, b}
    assert set(circuit.products) == {left, right}
    assert circuit.sums == (circuit.root,)
    seen = set()
    for array in circuit.arrays:
        assert all(id(child) in seen for child in array.children)
        seen.add(id(array))
    assert circuit.arrays[-1] is circuit.root
    assert len(seen) == len(circuit.arrays)


def test_children_look_through_wiring_in_the_order_of_weights(diamond):
    a, b, left, right, circuit = diamond
    top = circuit.unit(circuit.root)
    assert circuit.children(top) == [circuit.unit(left), circuit.unit(right)]
    assert circuit.children(circuit.unit(left)) == [circuit.unit(a), circuit.unit(b, 0, 0)]
    assert circuit.children(circuit.unit(right)) == [circuit.unit(a), circuit.unit(b, 0, 1)]
    assert circuit.children(circuit.unit(a)) == []


def test_parents(diamond):
    a, b, left, right, circuit = diamond
    assert circuit.parents(circuit.unit(a)) == [circuit.unit(left), circuit.unit(right)]
    assert circuit.parents(circuit.unit(b, 0, 1)) == [circuit.unit(right)]
    assert circuit.parents(circuit.unit(circuit.root)) == []
    selected = right.children[1]
    assert isinstance(selected, Wiring)
    assert circuit.parents(circuit.unit(selected)) == [circuit.unit(right)]


def test_edges(diamond):
    a, b, left, right, circuit = diamond
    names = {id(a): "a", id(b): "b", id(left): "left", id(right): "right", id(circuit.root): "root"}
    edges = [(names[id(p.array)], names[id(c.array)], c.column) for p, c in circuit.edges()]
    assert sorted(edges) == [
        ("left", "a", 0),
        ("left", "b", 0),
        ("right", "a", 0),
        ("right", "b", 1),
        ("root", "left", 0),
        ("root", "right", 0),
    ]


def test_children_of_every_kind_of_array():
    array = pc.Bernoulli(["a", "b"], [[0.1, 0.2], [0.3, 0.4]])
    outer = array[0].outer(array[1])
    groups = array.prod([[1, 0]])
    dense = pc.concat([outer, groups], axis="width").sum(torch.ones(2, 6))
    circuit = pc.Circuit(dense)
    assert circuit.num_roots == 2
    assert [u[1:] for u in circuit.children(circuit.unit(outer, 0, 2))] == [(0, 1), (1, 0)]
    assert [u[1:] for u in circuit.children(circuit.unit(groups, 0, 1))] == [(1, 1), (0, 1)]
    below = circuit.children(circuit.unit(dense, 0, 1))
    assert [(u.array is outer, u.column) for u in below] == [(True, k) for k in range(4)] + [(False, 0), (False, 1)]


def test_one_unit_that_broadcasts_is_the_child_of_all():
    gate = pc.Indicator("a", 1)
    array = pc.Normal("x", [0.0, 1.0], 1.0)
    product = gate * array
    circuit = pc.Circuit(product)
    assert len(circuit.parents(circuit.unit(gate))) == 2


def test_several_roots_from_a_list(diamond):
    _, _, left, right, _ = diamond
    circuit = pc.Circuit([left, right])
    assert circuit.num_roots == 2
    assert circuit.children(circuit.unit(circuit.root, 0, 1)) == [circuit.unit(right)]


def test_parameters_are_listed_once():
    probs = pc.Parameter(torch.tensor([[0.1, 0.2]]), pc.unit_interval)
    weights = pc.Parameter(torch.tensor([0.5, 0.5]), pc.simplex)
    a, b = pc.Bernoulli("a", probs), pc.Bernoulli("b", probs)
    circuit = pc.Circuit(a.sum(weights) * b.sum(weights))
    assert set(circuit.parameters()) == {probs, weights}
    assert len(list(circuit.parameters())) == 2


def test_the_repr_counts():
    assert repr(pc.Circuit(pc.Bernoulli("a", 0.5))) == "Circuit(1 variables, 1 arrays, 1 root)"
    assert repr(pc.Circuit(pc.Bernoulli("a", [0.5, 0.1]))).endswith("2 roots)")


def test_topological_visits_each_array_once(diamond):
    *_, circuit = diamond
    assert topological(circuit.root) == circuit.arrays
    heights = fold(circuit.arrays, lambda array, below: 1 + max(below, default=0))
    assert heights[id(circuit.root)] == max(heights.values())


@settings(max_examples=50, deadline=None)
@given(circuits(max_roots=3))
def test_parents_are_the_inverse_of_children(circuit):
    edges = list(circuit.edges())
    assert len(edges) == circuit.summary().edges
    for parent, child in edges:
        assert not isinstance(child.array, Wiring)
        assert circuit.children(parent).count(child) == circuit.parents(child).count(parent) > 0
