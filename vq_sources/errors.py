"""The errors of `vq_sources`: each says what was asked, what is wrong, where, and what to do instead."""

from pcircuits.errors import CircuitError

__all__ = ["ConfigError", "DataError", "QuantizerError", "SelectionError"]


class DataError(CircuitError):
    """A data set is unknown, missing or corrupt; images, labels or codes have the wrong shape, type or range."""


class ConfigError(CircuitError):
    """A model's configuration is impossible, or does not fit the data: a grid that does not divide the image, say."""


class QuantizerError(CircuitError):
    """A quantiser breaks its contract; the message names the option at fault."""


class SelectionError(CircuitError):
    """A selection of codes is impossible: more codes than there are, too many to enumerate, labels that are missing."""
