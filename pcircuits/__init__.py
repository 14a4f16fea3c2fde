"""Probabilistic circuits that answer any query exactly."""

from pcircuits._version import __version__

__all__ = ["__version__"]
