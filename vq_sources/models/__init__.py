"""Vector-quantised models."""

from vq_sources.models.config import GMVQConfig, GMVQDrawsConfig, PatchVQVAEConfig, VQVAEConfig
from vq_sources.models.files import config_from_dict, config_to_dict, load_model, save_model
from vq_sources.models.gmvq import GMVQ, GMVQDraws, with_draws
from vq_sources.models.patch_vqvae import PatchVQVAE
from vq_sources.models.usage import CodebookReport, codebook_report
from vq_sources.models.vqvae import VQVAE

__all__ = [
    "GMVQ",
    "VQVAE",
    "CodebookReport",
    "GMVQConfig",
    "GMVQDraws",
    "GMVQDrawsConfig",
    "PatchVQVAE",
    "PatchVQVAEConfig",
    "VQVAEConfig",
    "codebook_report",
    "config_from_dict",
    "config_to_dict",
    "load_model",
    "save_model",
    "with_draws",
]
