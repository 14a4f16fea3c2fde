"""The sources of the library: files know them by name, wherever they are read."""

from __future__ import annotations

from torch import nn

from pcircuits.structures.decoders import Decoded
from pcircuits.structures.networks import NetworkParameters, NetworkWeights

__all__ = ["SOURCES"]

SOURCES: tuple[type[nn.Module], ...] = (Decoded, NetworkParameters, NetworkWeights)
