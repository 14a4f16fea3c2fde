"""condition: the circuit of the variables that remain when the others have been observed."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.mass import log_values
from pcircuits.circuit.normalise import divide, require_mass_by_parts
from pcircuits.circuit.units import Input
from pcircuits.errors import EvidenceError, ScopeError
from pcircuits.evidence import Evidence, EvidenceLike
from pcircuits.parameters import Source, Sourced
from pcircuits.queries.conditional import require_possible, variables_of

__all__ = ["condition"]

SOURCED_COLUMNS = 1024
"""How many columns a source is asked for at a time."""


def condition(circuit: Circuit, evidence: EvidenceLike) -> Circuit:
    """The normalised circuit of all other variables: p(rest | evidence), for one row of evidence.

    Every unit is divided by its value on the evidence with all else summed out, so that weights become posteriors:
    w_i · v_i / Σ_j w_j · v_j. The remaining variables keep their order. For many rows, `model.given(evidence)` answers
    without making circuits.

    **Raises** `EvidenceError` for more than one row, and evidence of probability zero; `ScopeError` where nothing would
    remain, and where an input unit over several variables is observed in part; `PropertyError` unless the circuit is
    smooth and decomposable.

    >>> import pcircuits as pc
    >>> wet = [pc.Bernoulli("wet", 0.1), pc.Bernoulli("wet", 0.9)]
    >>> circuit = pc.Circuit(0.8 * (pc.Indicator("rain", 0) * wet[0]) + 0.2 * (pc.Indicator("rain", 1) * wet[1]))
    >>> [round(w, 3) for w in condition(circuit, {"wet": 1}).root.weights.value.tolist()]
    [0.308, 0.692]
    """
    require_mass_by_parts(circuit, "condition")
    known = Evidence.read(evidence, variables_of(circuit), torch.float64, torch.device("cpu"))
    if known.rows != 1:
        raise EvidenceError(f"condition takes one row of evidence, not {known.rows}: model.given(evidence) takes many")
    observed = [label for label, seen in zip(circuit.variables, known.observed[0].tolist(), strict=True) if seen]
    if len(observed) == len(circuit.variables):
        raise ScopeError("condition: everything is observed, and no variable remains: model.log_prob(x) evaluates it")
    values = log_values(circuit, lambda array: _leaf_values(circuit, array, known))
    require_possible(values[id(circuit.root)][0].amax(0, keepdim=True))
    return divide(circuit, values, observed)


def _leaf_values(circuit: Circuit, array: Input, known: Evidence) -> Tensor:
    """log p(evidence) of input units, (R, K), zero where nothing of theirs is observed."""
    # Regions that the root makes no use of may be over variables without a column: nobody reads what they say.
    columns = torch.tensor([[circuit.column_of.get(label, 0) for label in labels] for labels in array.variables])
    x, seen = known.x[0, columns].unsqueeze(1), known.observed[0, columns].unsqueeze(1)
    if not bool(seen.any()):
        return torch.zeros(array.shape, dtype=torch.float64)
    if not isinstance(array.parameters, Sourced):
        stored = {name: parameter.value.to("cpu", torch.float64) for name, parameter in array.parameters.items()}
        return array.family.log_prob(x, seen, stored).expand(array.shape)
    source = array.parameters.source
    assert isinstance(source, Source)
    parts = []
    with torch.no_grad():
        device = next(itertools.chain(source.parameters(), source.buffers()), torch.empty(0)).device
        for columns_made in torch.split(torch.arange(array.width, device=device), SOURCED_COLUMNS):
            made = {name: value.to("cpu", torch.float64) for name, value in source.parameters_for(columns_made).items()}
            parts.append(array.family.log_prob(x, seen, made).expand(array.regions, len(columns_made)))
    return torch.cat(parts, 1)
