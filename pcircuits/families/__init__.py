"""Families of distributions: one file each."""

from importlib import import_module
from pkgutil import iter_modules

from pcircuits.families.bernoulli import Bernoulli
from pcircuits.families.categorical import Categorical
from pcircuits.families.counts import AbstractCounts
from pcircuits.families.discretized import AbstractDiscretized
from pcircuits.families.discretized_logistic import DiscretizedLogistic
from pcircuits.families.discretized_normal import DiscretizedNormal
from pcircuits.families.exponential import Exponential
from pcircuits.families.finite import AbstractFinite
from pcircuits.families.indicator import Indicator
from pcircuits.families.interface import (
    FAMILIES,
    AbstractExponentialFamily,
    AbstractFamily,
    AbstractUnivariate,
    Parameters,
    ParameterSpec,
)
from pcircuits.families.normal import Normal
from pcircuits.families.poisson import Poisson
from pcircuits.families.support import Support

__all__ = [
    "FAMILIES",
    "AbstractCounts",
    "AbstractDiscretized",
    "AbstractExponentialFamily",
    "AbstractFamily",
    "AbstractFinite",
    "AbstractUnivariate",
    "Bernoulli",
    "Categorical",
    "DiscretizedLogistic",
    "DiscretizedNormal",
    "Exponential",
    "Indicator",
    "Normal",
    "ParameterSpec",
    "Parameters",
    "Poisson",
    "Support",
]

# A module of this package is enough for its family to be here; the imports above tell type checkers of them.
for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
globals().update(FAMILIES)
