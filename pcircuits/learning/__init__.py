"""Learning: the training loop that circuits, VQ models and priors share."""

from pcircuits.learning.averaging import AbstractAveraging, AbstractStepSize, Anemone, Falling, PowerLaw, Stepwise
from pcircuits.learning.em import em
from pcircuits.learning.errors import CheckpointError, DivergenceError, TrainingError
from pcircuits.learning.history import EpochRecord, History
from pcircuits.learning.learner import Learner, Preparable, negative_log_likelihood
from pcircuits.learning.loop import fit
from pcircuits.learning.rows import Rows
from pcircuits.learning.settings import EMSettings, FitSettings

__all__ = [
    "AbstractAveraging",
    "AbstractStepSize",
    "Anemone",
    "CheckpointError",
    "DivergenceError",
    "EMSettings",
    "EpochRecord",
    "Falling",
    "FitSettings",
    "History",
    "Learner",
    "PowerLaw",
    "Preparable",
    "Rows",
    "Stepwise",
    "TrainingError",
    "em",
    "fit",
    "negative_log_likelihood",
]
