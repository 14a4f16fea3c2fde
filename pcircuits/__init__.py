"""Probabilistic circuits that answer any query exactly.

Build a circuit of units by algebra, compile it, and ask: marginals, conditionals, means, samples, most probable values.
"""

from pcircuits import families
from pcircuits._version import __version__
from pcircuits.circuit.algebra import concat, mixture
from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.leaves import (
    Bernoulli,
    Categorical,
    DiscretizedLogistic,
    DiscretizedNormal,
    Indicator,
    Normal,
    inputs,
)
from pcircuits.circuit.marginal import marginalize
from pcircuits.circuit.normalise import normalise
from pcircuits.circuit.units import Constant, Input, Units
from pcircuits.errors import CircuitError, EvidenceError, FileFormatError, ParameterError, PropertyError, ScopeError
from pcircuits.io import SavableSource, load, save
from pcircuits.networkx import to_networkx
from pcircuits.parameters import Parameter, Sourced, nonnegative, positive, real, simplex, unit_interval
from pcircuits.queries.compiled import CompiledCircuit
from pcircuits.queries.condition import condition

__all__ = [
    "Bernoulli",
    "Categorical",
    "Circuit",
    "CircuitError",
    "CompiledCircuit",
    "Constant",
    "DiscretizedLogistic",
    "DiscretizedNormal",
    "EvidenceError",
    "FileFormatError",
    "Indicator",
    "Input",
    "Normal",
    "Parameter",
    "ParameterError",
    "PropertyError",
    "SavableSource",
    "ScopeError",
    "Sourced",
    "Units",
    "__version__",
    "concat",
    "condition",
    "families",
    "inputs",
    "load",
    "marginalize",
    "mixture",
    "nonnegative",
    "normalise",
    "positive",
    "real",
    "save",
    "simplex",
    "to_networkx",
    "unit_interval",
]
