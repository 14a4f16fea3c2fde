"""`broken_circuits`: circuits that lack one property, and which."""

from __future__ import annotations

from typing import Literal

from hypothesis import strategies as st

from pcircuits.circuit.algebra import concat
from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.units import Mix, Product, Sum, Units
from pcircuits.parameters import Parameter, nonnegative
from pcircuits.scope import Variable
from pcircuits.testing.drawing.growing import Builder
from pcircuits.testing.strategies.drawn import Draw, Drawn

__all__ = ["broken_circuits"]

Broken = Literal["smooth", "decomposable"]


@st.composite
def broken_circuits(draw: Draw) -> tuple[Circuit, Broken]:
    """A circuit with one sum over different scopes, or one product over overlapping scopes, somewhere inside; and
    which property that breaks. Every other sum is smooth, every other product decomposable.

    >>> from hypothesis import given, settings
    >>> @settings(max_examples=5, database=None)
    ... @given(broken_circuits())
    ... def test(broken):
    ...     circuit, what = broken
    ...     assert not getattr(circuit.check(), what)
    >>> test()
    """
    builder = Builder(Drawn(draw), {"a": 2, "b": 2, "c": None, "d": 3, "e": None})
    one, other = builder.one_of(PAIRS)
    u, v = (builder.region(scope, builder.integer(0, 2)) for scope in (one, other))
    what: Broken = builder.one_of(("smooth", "decomposable"))
    if what == "smooth":
        crack = _unsmooth(builder, u, v)
    else:
        v = builder.region((*one[-1:], *other[1:]), 1)
        crack = Product((u[0, 0], v[0, 0]))
    if builder.flag():
        crack = Product((crack, builder.region(("e",), 1)[0, 0]))
    if builder.flag():
        crack = Sum(concat([crack, crack], axis="width"), builder.weights((2,)))
    return Circuit(crack), what


PAIRS: list[tuple[tuple[Variable, ...], tuple[Variable, ...]]] = [
    (("a",), ("b",)),
    (("a",), ("a", "b")),
    (("a", "c"), ("a", "b", "c")),
    (("b", "a"), ("c", "d")),
]
"""Scopes that differ."""


def _unsmooth(builder: Builder, u: Units, v: Units) -> Units:
    if builder.flag():
        return Mix((u[0, 0], v[0, 0]), Parameter(builder.numbers.uniform(0.1, 1.0, 2), nonnegative))
    return concat([u, v], axis="width").sum(builder.numbers.uniform(0.1, 1.0, u.width + v.width))
