"""`deterministic_circuits`: random decision diagrams, whose sums branch on the state of a variable."""

from __future__ import annotations

from hypothesis import strategies as st

from pcircuits.circuit.circuit import Circuit
from pcircuits.testing.drawing.diagrams import draw_deterministic
from pcircuits.testing.strategies.drawn import Draw, Drawn

__all__ = ["deterministic_circuits"]


@st.composite
def deterministic_circuits(draw: Draw, densities: bool = True, max_variables: int = 4, max_states: int = 3) -> Circuit:
    """Random smooth, decomposable and deterministic circuits: below every sum, indicators of one variable decide.

    >>> from hypothesis import given, settings
    >>> @settings(max_examples=5, database=None)
    ... @given(deterministic_circuits())
    ... def test(circuit):
    ...     assert circuit.check().deterministic
    >>> test()
    """
    return draw_deterministic(Drawn(draw), densities, max_variables, max_states)
