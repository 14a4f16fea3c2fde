"""Families of distributions: one file each."""

from importlib import import_module
from pkgutil import iter_modules

from pcircuits.families.bernoulli import Bernoulli
from pcircuits.families.beta import Beta
from pcircuits.families.binomial import Binomial
from pcircuits.families.categorical import Categorical
from pcircuits.families.counts import AbstractCounts
from pcircuits.families.discretized import AbstractDiscretized
from pcircuits.families.discretized_logistic import DiscretizedLogistic
from pcircuits.families.discretized_normal import DiscretizedNormal
from pcircuits.families.exponential import Exponential
from pcircuits.families.external import External
from pcircuits.families.finite import AbstractFinite
from pcircuits.families.gamma import Gamma
from pcircuits.families.geometric import Geometric
from pcircuits.families.histogram import Histogram
from pcircuits.families.indicator import Indicator
from pcircuits.families.interface import (
    FAMILIES,
    AbstractExponentialFamily,
    AbstractFamily,
    AbstractUnivariate,
    Parameters,
    ParameterSpec,
)
from pcircuits.families.laplace import Laplace
from pcircuits.families.log_normal import LogNormal
from pcircuits.families.multivariate_normal import MultivariateNormal
from pcircuits.families.negative_binomial import NegativeBinomial
from pcircuits.families.normal import Normal
from pcircuits.families.piecewise_linear import PiecewiseLinear
from pcircuits.families.poisson import Poisson
from pcircuits.families.student_t import StudentT
from pcircuits.families.support import Support
from pcircuits.families.uniform import Uniform
from pcircuits.families.von_mises import VonMises

__all__ = [
    "FAMILIES",
    "AbstractCounts",
    "AbstractDiscretized",
    "AbstractExponentialFamily",
    "AbstractFamily",
    "AbstractFinite",
    "AbstractUnivariate",
    "Bernoulli",
    "Beta",
    "Binomial",
    "Categorical",
    "DiscretizedLogistic",
    "DiscretizedNormal",
    "Exponential",
    "External",
    "Gamma",
    "Geometric",
    "Histogram",
    "Indicator",
    "Laplace",
    "LogNormal",
    "MultivariateNormal",
    "NegativeBinomial",
    "Normal",
    "ParameterSpec",
    "Parameters",
    "PiecewiseLinear",
    "Poisson",
    "StudentT",
    "Support",
    "Uniform",
    "VonMises",
]

# A module of this package is enough for its family to be here; the imports above tell type checkers of them.
for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
globals().update(FAMILIES)
