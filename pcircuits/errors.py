"""The errors users meet: each says what was asked, what is wrong, where, and what to do instead."""

__all__ = [
    "CircuitError",
    "EvidenceError",
    "FileFormatError",
    "MemoryBoundError",
    "ParameterError",
    "PropertyError",
    "ScopeError",
]


class CircuitError(ValueError):
    """The base of every error the library raises for bad input."""


class ScopeError(CircuitError):
    """Variables do not fit: unknown, duplicated, overlapping, or of differing kinds."""


class PropertyError(CircuitError):
    """A query or a compilation needs a property that the circuit lacks; the message names the witness and the remedy."""


class EvidenceError(CircuitError):
    """Evidence has the wrong shape, an impossible value, or probability zero."""


class ParameterError(CircuitError):
    """A parameter lies outside its constraint, or has the wrong shape."""


class FileFormatError(CircuitError):
    """A circuit file is truncated, altered, of a newer version, or names a type that is not known here."""


class MemoryBoundError(CircuitError, MemoryError):
    """A query ran out of memory; the message names the bound to lower."""
