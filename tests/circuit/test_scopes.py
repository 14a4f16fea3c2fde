"""Scopes and the order of columns."""

import pytest

import pcircuits as pc
from pcircuits.scope import columns


def leaf(*labels):
    return pc.Bernoulli(list(labels), 0.5)


def test_integers_are_in_order_and_anything_else_by_first_appearance():
    assert pc.Circuit(leaf(5, 2, 10).prod()).variables == (2, 5, 10)
    assert pc.Circuit(leaf("b", "a", "c").prod()).variables == ("b", "a", "c")
    assert pc.Circuit(leaf(7, "a", 3).prod()).variables == (7, "a", 3)


def test_the_order_can_be_asked_for():
    circuit = pc.Circuit(leaf("b", "a", "c").prod(), variables=["c", "b", "a"])
    assert circuit.variables == ("c", "b", "a")
    assert dict(circuit.column_of) == {"c": 0, "b": 1, "a": 2}


def test_scopes_of_every_kind_of_array():
    ab = leaf("a", "b")
    c = leaf("c")
    one = pc.Constant(1.0)
    groups = ab.prod([[0], [0, 1]])
    outer = ab[1].outer(c)
    mixed = (0.5 * ab[1] + 0.5 * (one * ab[1])).units
    summed = mixed.sum([[1.0], [2.0]])
    selected = ab[[1, 0]]
    everything = ab[0] * (outer * one)
    root = 0.5 * everything + 0.5 * (ab[0] * (summed[0, 1] * c)) + 0.5 * (groups[1] * c) + 0.5 * (selected.prod() * c)
    circuit = pc.Circuit(root)
    assert circuit.scope(one) == frozenset()
    assert [circuit.scope(ab, r) for r in (0, 1)] == [{"a"}, {"b"}]
    assert [circuit.scope(groups, r) for r in (0, 1)] == [{"a"}, {"a", "b"}]
    assert [circuit.scope(selected, r) for r in (0, 1)] == [{"b"}, {"a"}]
    assert circuit.scope(outer) == {"b", "c"}
    assert circuit.scope(mixed) == {"b"}
    assert circuit.scope(summed) == {"b"}
    assert circuit.scope(everything) == {"a", "b", "c"}
    assert circuit.scope(root) == {"a", "b", "c"}


def test_more_variables_than_a_machine_word_holds():
    circuit = pc.Circuit(leaf(*range(200)).prod())
    assert circuit.scope(circuit.root) == set(range(200))


@pytest.mark.parametrize("bits", [0, 1, 0b1010, 1 << 200])
def test_columns_of_a_scope(bits):
    assert sum(1 << column for column in columns(bits)) == bits
