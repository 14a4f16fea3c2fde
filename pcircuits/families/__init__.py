"""Families of distributions: one file each."""

from pcircuits.families.bernoulli import Bernoulli
from pcircuits.families.categorical import Categorical
from pcircuits.families.discretized import AbstractDiscretized
from pcircuits.families.discretized_logistic import DiscretizedLogistic
from pcircuits.families.discretized_normal import DiscretizedNormal
from pcircuits.families.finite import AbstractFinite
from pcircuits.families.indicator import Indicator
from pcircuits.families.interface import (
    AbstractExponentialFamily,
    AbstractFamily,
    AbstractUnivariate,
    Parameters,
    ParameterSpec,
)
from pcircuits.families.normal import Normal

__all__ = [
    "FAMILIES",
    "AbstractDiscretized",
    "AbstractExponentialFamily",
    "AbstractFamily",
    "AbstractFinite",
    "AbstractUnivariate",
    "Bernoulli",
    "Categorical",
    "DiscretizedLogistic",
    "DiscretizedNormal",
    "Indicator",
    "Normal",
    "ParameterSpec",
    "Parameters",
]

FAMILIES: dict[str, type[AbstractFamily]] = {
    family.name: family
    for family in (Bernoulli, Categorical, DiscretizedLogistic, DiscretizedNormal, Indicator, Normal)
}
"""Name to class, to rebuild a family from its name and its dataclass fields."""
