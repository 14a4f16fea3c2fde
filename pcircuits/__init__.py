"""Probabilistic circuits that answer any query exactly.

Build a circuit of units by algebra, compile it, and ask: marginals, conditionals, means, samples, most probable values.
"""

from pcircuits import families, structures
from pcircuits._version import __version__
from pcircuits.circuit import leaves as _leaves
from pcircuits.circuit.algebra import concat, mixture
from pcircuits.circuit.circuit import Circuit, Unit
from pcircuits.circuit.latents import latents_of, with_latents
from pcircuits.circuit.leaves import (
    Bernoulli,
    Beta,
    Categorical,
    DiscretizedLogistic,
    DiscretizedNormal,
    Exponential,
    Indicator,
    Normal,
    Poisson,
    inputs,
)
from pcircuits.circuit.marginal import marginalize
from pcircuits.circuit.materialise import materialise
from pcircuits.circuit.normalise import normalise
from pcircuits.circuit.units import Constant, Input, Mix, Outer, Product, Sum, Units, Wiring
from pcircuits.circuit.verdict import Verdict, Witness
from pcircuits.errors import (
    CircuitError,
    EvidenceError,
    FileFormatError,
    MemoryBoundError,
    ParameterError,
    PropertyError,
    ScopeError,
)
from pcircuits.evidence import Evidence
from pcircuits.io import SavableSource, load, save
from pcircuits.networkx import to_networkx
from pcircuits.parameters import Parameter, Source, Sourced, fixed, nonnegative, positive, real, simplex, unit_interval
from pcircuits.queries.compiled import CompiledCircuit, Conditioned
from pcircuits.queries.condition import condition
from pcircuits.queries.maximum import Completion

__all__ = [
    "Bernoulli",
    "Beta",
    "Binomial",
    "Categorical",
    "Circuit",
    "CircuitError",
    "CompiledCircuit",
    "Completion",
    "Conditioned",
    "Constant",
    "DiscretizedLogistic",
    "DiscretizedNormal",
    "Evidence",
    "EvidenceError",
    "Exponential",
    "FileFormatError",
    "Gamma",
    "Geometric",
    "Histogram",
    "Indicator",
    "Input",
    "Laplace",
    "LogNormal",
    "MemoryBoundError",
    "Mix",
    "MultivariateNormal",
    "NegativeBinomial",
    "Normal",
    "Outer",
    "Parameter",
    "ParameterError",
    "PiecewiseLinear",
    "Poisson",
    "Product",
    "PropertyError",
    "SavableSource",
    "ScopeError",
    "Source",
    "Sourced",
    "StudentT",
    "Sum",
    "Uniform",
    "Unit",
    "Units",
    "Verdict",
    "VonMises",
    "Wiring",
    "Witness",
    "__version__",
    "concat",
    "condition",
    "families",
    "fixed",
    "inputs",
    "latents_of",
    "load",
    "marginalize",
    "materialise",
    "mixture",
    "nonnegative",
    "normalise",
    "positive",
    "real",
    "save",
    "simplex",
    "structures",
    "to_networkx",
    "unit_interval",
    "with_latents",
]

globals().update({name: getattr(_leaves, name) for name in families.FAMILIES})
__all__ += [name for name in families.FAMILIES if name not in __all__]
