"""Quantisers behind one interface: vectors (B, P, d) to codes (B, P) and back."""

from vq_sources.quantizers.ema import ema_quantizer
from vq_sources.quantizers.gaussian_mixture import GaussianMixtureQuantizer
from vq_sources.quantizers.interface import AbstractQuantizer, Quantized
from vq_sources.quantizers.wrapped import WrappedQuantizer

__all__ = ["AbstractQuantizer", "GaussianMixtureQuantizer", "Quantized", "WrappedQuantizer", "ema_quantizer"]
