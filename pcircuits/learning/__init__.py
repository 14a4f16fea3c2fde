"""Learning: the training loop that circuits, VQ models and priors share."""

from pcircuits.learning.errors import CheckpointError, DivergenceError, TrainingError
from pcircuits.learning.history import EpochRecord, History
from pcircuits.learning.learner import Learner, Preparable, negative_log_likelihood
from pcircuits.learning.loop import fit
from pcircuits.learning.settings import FitSettings

__all__ = [
    "CheckpointError",
    "DivergenceError",
    "EpochRecord",
    "FitSettings",
    "History",
    "Learner",
    "Preparable",
    "TrainingError",
    "fit",
    "negative_log_likelihood",
]
