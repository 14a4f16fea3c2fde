"""Estimators for tables with holes, in scikit-learn's conventions: densities, a classifier, an imputer.

Scikit-learn comes with the extra: pip install "pcircuits[sklearn]".
"""

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError as error:  # pragma: no cover
    raise ImportError('pcircuits.sklearn needs scikit-learn: pip install "pcircuits[sklearn]"') from error

from pcircuits.sklearn.classifier import CircuitClassifier
from pcircuits.sklearn.density import CircuitDensity
from pcircuits.sklearn.imputer import CircuitImputer

__all__ = ["CircuitClassifier", "CircuitDensity", "CircuitImputer"]
