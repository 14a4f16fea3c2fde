"""What every kind of units knows of itself; and a kind of one's own, which the library takes as it takes its own."""

import io
import math
import pickle

import pytest
import torch
from hypothesis import given, settings

import pcircuits as pc
from pcircuits.circuit.circuit import fold
from pcircuits.circuit.kinds import KINDS
from pcircuits.circuit.mass import log_masses
from pcircuits.circuit.units import AbstractProduct
from pcircuits.testing import Oracle
from pcircuits.testing.strategies import circuits


def test_codes_in_files_are_distinct():
    codes = [code for kind in KINDS for code in kind.codes]
    assert len(set(codes)) == len(codes) == 12


@settings(max_examples=40, deadline=None)
@given(circuits(max_roots=2))
def test_rebuilt_over_new_children_is_the_same_circuit(circuit):
    made = fold(circuit.arrays, lambda array, children: array.rebuilt(children, lambda p: p, lambda s: s))
    twin = pc.Circuit(made[id(circuit.root)], circuit.variables)
    assert all(one is not other for one, other in zip(twin.arrays, circuit.arrays, strict=True))
    assert list(twin.parameters()) == list(circuit.parameters())
    assert str(twin.summary()) == str(circuit.summary())
    one, other = Oracle(circuit), Oracle(twin)
    row = {label: one.candidates(label)[0] for label in circuit.variables}
    for root in range(circuit.num_roots):
        assert one.log_value(row, root) == other.log_value(row, root)


def test_rebuilt_with_other_parameters_and_sources():
    class Table(torch.nn.Module):
        def parameters_for(self, columns):
            return {"probs": torch.full((1, len(columns)), 0.5)}

    made = pc.inputs(pc.families.Bernoulli(), "a", pc.Sourced(Table(), 1, 1))
    twice = pc.Sourced(Table(), 1, 1)
    assert made.rebuilt([], lambda p: p, lambda _: twice).parameters is twice
    mixed = pc.Bernoulli("a", [0.25, 0.75]).sum([0.5, 0.5])
    other = pc.Parameter([0.25, 0.75], pc.simplex)
    assert mixed.rebuilt(mixed.children, lambda _: other, lambda s: s).weights is other


class Square(AbstractProduct):
    """Its child times itself: a kind that the library does not have."""

    __slots__ = ()
    codes = ()

    def __init__(self, child):
        super().__init__(child.shape, (child,))

    def factors(self, region, children):
        return [children[0][region]] * 2

    def log_values(self, children, leaves):
        return 2 * children[0]

    def supports(self, children, supports):
        return children[0]

    def rebuilt(self, children, parameter, sourced):
        return Square(children[0])

    def to_integers(self, numbering):
        return 99, []

    @classmethod
    def from_integers(cls, code, children, ints, contents):
        raise NotImplementedError


def test_a_kind_of_ones_own():
    leaf, constant = pc.Bernoulli("a", 0.25), pc.Constant(3.0)
    circuit = pc.Circuit(Square(constant) * leaf)
    assert circuit.check().decomposable
    assert circuit.check().deterministic
    assert log_masses(circuit)[id(circuit.root)].item() == pytest.approx(math.log(9.0), rel=1e-14)
    assert circuit.scope(circuit.root) == {"a"}
    assert (circuit.summary().products, circuit.summary().edges) == (2, 3)
    assert pc.to_networkx(circuit).number_of_nodes() == 4
    broken = pc.Circuit(Square(leaf)).check().decomposable
    assert str(broken) == "decomposable: no (Square(1, 1), region 0: two of its factors share {'a'})"
    assert pickle.loads(pickle.dumps(circuit)).check().decomposable
    with pytest.raises(pc.FileFormatError, match=r"Square\(1, 1\) cannot be saved: files know the kinds \['Input', "):
        pc.save(circuit, io.BytesIO())
