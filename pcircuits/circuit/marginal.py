"""`marginalize`: the circuit of the variables that remain when others are summed and integrated out."""

from __future__ import annotations

from collections.abc import Iterable

from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.mass import log_masses
from pcircuits.circuit.normalise import divide, require_mass_by_parts
from pcircuits.errors import ScopeError
from pcircuits.scope import Variable, as_label, is_label

__all__ = ["marginalize"]


def marginalize(circuit: Circuit, variables: Variable | Iterable[Variable]) -> Circuit:
    """The normalised circuit of all other variables: p(rest) = ∫ p(rest, variables) d variables.

    Input units over the variables are replaced by their mass 1, which disappears from products, and the sums are
    normalised (`normalise`). The remaining variables keep their order. Sharing, ties and sources are kept.

    **Arguments**

    - `variables`: the labels to sum out: one, or any number of them.

    **Raises** `ScopeError` for labels that the circuit does not have, where nothing would remain, and where an input
    unit over several variables would lose only some of them; `PropertyError` unless the circuit is smooth and
    decomposable, and where a root integrates to zero.

    Choi, Vergari and Van den Broeck (2020), *Probabilistic Circuits*, proposition 1.

    >>> import pcircuits as pc
    >>> wet = [pc.Bernoulli("wet", 0.1), pc.Bernoulli("wet", 0.9)]
    >>> circuit = pc.Circuit(0.8 * (pc.Indicator("rain", 0) * wet[0]) + 0.2 * (pc.Indicator("rain", 1) * wet[1]))
    >>> dry = marginalize(circuit, "wet")
    >>> dry.variables, dry.root.weights.value.tolist(), len(dry.products)
    (('rain',), [0.8, 0.2], 0)
    """
    labels = [as_label(label) for label in ([variables] if is_label(variables) else variables)]  # type: ignore[union-attr]
    if unknown := [label for label in dict.fromkeys(labels) if label not in circuit.column_of]:
        raise ScopeError(f"marginalize: {circuit!r} has no variables {unknown}; it has {_some(circuit.variables)}")
    if len(set(labels)) == len(circuit.variables):
        raise ScopeError(
            f"marginalize: summing out all of {_some(circuit.variables)} leaves no variables, only the number 1: "
            "keep at least one"
        )
    require_mass_by_parts(circuit, "marginalize")
    return divide(circuit, log_masses(circuit), labels)


def _some(labels: tuple[Variable, ...]) -> str:
    shown = ", ".join(repr(label) for label in labels[:8])
    return f"[{shown}{f', ... {len(labels)} in all' if len(labels) > 8 else ''}]"
