"""Vector-quantised autoencoders as sources of probabilistic circuits.

Train a VQ-VAE and a prior over its codes, choose codes, distil them into a circuit, and ask it anything.
"""

from pcircuits.learning import FitSettings
from vq_sources import metrics, priors, selection
from vq_sources.calibrate import CalibratedDecoder, calibrate
from vq_sources.codes import CodeSet
from vq_sources.compose import compose
from vq_sources.data import Dataset, dequantise, load
from vq_sources.distil import DecoderSource, distil, load_circuit
from vq_sources.errors import ConfigError, DataError, QuantizerError, SelectionError
from vq_sources.finetune import FineTuned, finetune
from vq_sources.fitting import encode, fit
from vq_sources.models import (
    GMVQ,
    VQVAE,
    GMVQConfig,
    GMVQDraws,
    PatchVQVAE,
    PatchVQVAEConfig,
    VQVAEConfig,
    codebook_report,
    config_from_dict,
    config_to_dict,
    load_model,
    save_model,
    with_draws,
)
from vq_sources.priors import (
    AutoregressivePrior,
    CircuitPrior,
    EmpiricalPrior,
    IndependentPrior,
    PixelCNN,
    PixelCNNConfig,
)
from vq_sources.protocols import ImageVQDecoder, LocalVQDecoder, VQDecoder, VQSource

__all__ = [
    "GMVQ",
    "VQVAE",
    "AutoregressivePrior",
    "CalibratedDecoder",
    "CircuitPrior",
    "CodeSet",
    "ConfigError",
    "DataError",
    "Dataset",
    "DecoderSource",
    "EmpiricalPrior",
    "FineTuned",
    "FitSettings",
    "GMVQConfig",
    "GMVQDraws",
    "ImageVQDecoder",
    "IndependentPrior",
    "LocalVQDecoder",
    "PatchVQVAE",
    "PatchVQVAEConfig",
    "PixelCNN",
    "PixelCNNConfig",
    "QuantizerError",
    "SelectionError",
    "VQDecoder",
    "VQSource",
    "VQVAEConfig",
    "calibrate",
    "codebook_report",
    "compose",
    "config_from_dict",
    "config_to_dict",
    "dequantise",
    "distil",
    "encode",
    "finetune",
    "fit",
    "load",
    "load_circuit",
    "load_model",
    "metrics",
    "priors",
    "save_model",
    "selection",
    "with_draws",
]
