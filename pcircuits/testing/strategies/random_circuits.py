"""`circuits`: random smooth, decomposable circuits of scalars and arrays, deep and shared."""

from __future__ import annotations

from hypothesis import strategies as st

from pcircuits.circuit.circuit import Circuit
from pcircuits.testing.drawing.growing import draw_circuit
from pcircuits.testing.strategies.drawn import Draw, Drawn

__all__ = ["circuits"]


@st.composite
def circuits(
    draw: Draw,
    densities: bool = True,
    max_variables: int = 5,
    max_states: int = 4,
    max_depth: int = 5,
    max_roots: int = 1,
) -> Circuit:
    """Random smooth, decomposable, homogeneous circuits, small enough to enumerate.

    They are directed acyclic graphs with sharing, of all families, of scalar units and arrays, with weights that are
    zero, tied, off or on the simplex, very large or very small; labels are ints or strings, columns in any order. Every
    root has positive mass.

    **Arguments**

    - `densities`: whether some variables may be continuous; without, every circuit can be enumerated.
    - `max_variables`, `max_states`, `max_depth`: bounds on size.
    - `max_roots`: how many roots at most.

    >>> from hypothesis import given, settings
    >>> @settings(max_examples=5, database=None)
    ... @given(circuits())
    ... def test(circuit):
    ...     assert circuit.check().smooth and circuit.check().decomposable
    >>> test()
    """
    return draw_circuit(Drawn(draw), densities, max_variables, max_states, max_depth, max_roots)
