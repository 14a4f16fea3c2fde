"""Circuits in files: one safetensors file each, whole or absent, and checked before it is believed."""

from pcircuits.io.circuits import load, save
from pcircuits.io.sources import SavableSource

__all__ = ["SavableSource", "load", "save"]
