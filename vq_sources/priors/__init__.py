"""Priors over grids of codes: one interface, one file for each member."""

from vq_sources.priors.circuit import CircuitPrior
from vq_sources.priors.class_marginal import ClassMarginal
from vq_sources.priors.empirical import EmpiricalPrior
from vq_sources.priors.independent import IndependentPrior
from vq_sources.priors.interface import AutoregressivePrior, State
from vq_sources.priors.pixelcnn import PixelCNN, PixelCNNConfig

__all__ = [
    "AutoregressivePrior",
    "CircuitPrior",
    "ClassMarginal",
    "EmpiricalPrior",
    "IndependentPrior",
    "PixelCNN",
    "PixelCNNConfig",
    "State",
]
