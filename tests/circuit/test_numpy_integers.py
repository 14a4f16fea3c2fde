"""Integers of numpy are taken wherever ints are, and what is kept of them are ints."""

import io

import numpy as np
import pytest

import pcircuits as pc
from pcircuits.scope import as_labels

one, two = np.int64(1), np.int32(2)


def only_ints(labels):
    return [type(label) for label in labels] == [int] * len(labels)


@pytest.mark.parametrize("labels", [np.arange(3), [np.int64(0), np.uint8(1), 2], tuple(np.arange(3, dtype=np.int16))])
def test_labels(labels):
    circuit = pc.Circuit(pc.Normal(labels, 0.0, 1.0).prod(), variables=np.array([2, 0, 1]))
    assert circuit.variables == (2, 0, 1)
    assert only_ints(circuit.variables)
    assert only_ints([label for scope in circuit.inputs[0].variables for label in scope])
    pc.save(circuit, io.BytesIO())


def test_one_label():
    assert pc.Circuit(pc.Bernoulli(one, 0.5)).variables == (1,)
    parameters = {"probs": pc.Parameter(0.5, pc.unit_interval)}
    made = pc.Input(pc.families.Bernoulli(), [(one,)], parameters)
    assert only_ints(pc.Circuit(made).variables)


@pytest.mark.parametrize("removed", [one, np.array([1]), [one], {two: 0, one: 0}.keys() - {2}])
def test_marginalize(removed):
    circuit = pc.Circuit(pc.Normal([1, 2], 0.0, 1.0).prod())
    assert pc.marginalize(circuit, removed).variables == (2,)


@pytest.mark.errors
@pytest.mark.parametrize("wrong", [True, np.bool_(True), 1.0, np.float64(1.0), None, [None], [1, True]])
def test_what_is_no_label(wrong):
    with pytest.raises(pc.ScopeError, match="a variable is an int or a str, not"):
        as_labels(wrong)
    with pytest.raises(pc.ScopeError, match="a variable is an int or a str, not"):
        pc.marginalize(pc.Circuit(pc.Normal([1, 2], 0.0, 1.0).prod()), wrong)


def test_places_and_groups():
    units = pc.Normal(range(4), 0.0, 1.0)
    product = units.prod(np.arange(4).reshape(2, 2))
    assert product.groups == ((0, 1), (2, 3))
    assert only_ints([r for group in product.groups for r in group])
    circuit = pc.Circuit(product.prod())
    unit = circuit.unit(units, one, np.int64(0))
    assert unit == circuit.unit(units, 1, 0)
    assert only_ints(unit[1:])
    assert circuit.scope(units, one) == {1}
    assert units[one].shape == units[one, np.int64(0)].shape == (1, 1)


@pytest.mark.errors
@pytest.mark.parametrize("groups", [[[0.5, 1]], [["a"]], [0, 1]])
def test_groups_of_what_is_no_region(groups):
    with pytest.raises(pc.CircuitError, match=r"group 0 is a sequence of regions, which are ints, not"):
        pc.Normal(range(4), 0.0, 1.0).prod(groups)


def test_weights():
    unit = pc.Bernoulli("a", 0.5)
    assert (two * unit + unit * one).units.weights.value.tolist() == [2.0, 1.0]


@pytest.mark.errors
def test_an_int_where_units_are_expected():
    with pytest.raises(pc.CircuitError, match="expected units, got int"):
        pc.Circuit([pc.Bernoulli("a", 0.5), 3])
