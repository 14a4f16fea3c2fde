"""The errors of training: a run that cannot start, a loss that diverges, a checkpoint of another run."""

from pcircuits.errors import CircuitError

__all__ = ["CheckpointError", "DivergenceError", "TrainingError"]


class TrainingError(CircuitError):
    """A module, its data or its settings cannot be trained as asked."""


class DivergenceError(TrainingError):
    """A loss or a gradient turned NaN or infinite; the message names the epoch, the step and what to lower."""


class CheckpointError(TrainingError):
    """A checkpoint is unreadable, or was made with other settings, data or architecture than this run's."""
