"""Distillation: a VQ model and a set of codes become a circuit, one product over pixels for each code under one sum."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

import pcircuits as pc
from pcircuits.errors import FileFormatError, ParameterError
from pcircuits.families import AbstractFamily
from vq_sources.codes import CodeSet
from vq_sources.errors import DataError, SelectionError
from vq_sources.models.config import VQVAEConfig
from vq_sources.models.files import Architectures, config_from_dict, config_of
from vq_sources.models.vqvae import VQVAE
from vq_sources.protocols import VQDecoder, check_codes
from vq_sources.quantizers.seeding import seeded

__all__ = ["DecoderSource", "Weights", "distil", "load_circuit"]

Weights = Literal["uniform", "prior", "bound"]
"""How components are weighed: 1/N; p(z) renormalised on the set; or p(z) itself, a lower bound of the teacher."""


class DecoderSource(nn.Module):
    """The decoder of a VQ model as a source of leaf parameters: column n is decoded from code n when it is asked for.

    A circuit never changes, so the decoder is copied once, here: training the model on changes no circuit. A model that
    has `decoder_alone()` (see `vq_sources.protocols.VQDecoder`) is copied without what the likelihood does not need.

    **Arguments**

    - `model`: a VQ model that is an `nn.Module`; a copy is kept, in evaluation mode.
    - `codes`: (N, P) int64; likewise.

    **Raises** `ParameterError` for a model that is no module or lacks what `VQDecoder` asks for, `DataError` for codes
    that do not fit it.
    """

    architectures: ClassVar[Architectures] = {"VQVAE": (VQVAEConfig, VQVAE)}
    families: ClassVar[tuple[type[AbstractFamily], ...]] = ()
    """Families of the user's that models from files may have."""
    codes: Tensor

    def __init__(self, model: nn.Module, codes: Int64[Tensor, "N P"]) -> None:
        super().__init__()
        if not isinstance(model, nn.Module) or not isinstance(model, VQDecoder):
            raise ParameterError(
                f"a source of a circuit is an nn.Module with the attributes of vq_sources.protocols.VQDecoder, and "
                f"{type(model).__name__} is not: distil with eager=True keeps the parameters instead"
            )
        check_codes(codes, model.cardinalities)
        alone = getattr(model, "decoder_alone", None)
        self.is_alone = callable(alone)
        self.model: nn.Module = copy.deepcopy(alone() if callable(alone) else model).eval()
        self.register_buffer("codes", codes.clone())

    def parameters_for(self, columns: Int64[Tensor, " n"]) -> dict[str, Tensor]:
        """The parameters of every pixel under the chosen codes, each (D, n)."""
        assert isinstance(self.model, VQDecoder)
        return {name: value.T for name, value in self.model.likelihood(self.codes[columns]).items()}

    def to_config(self) -> dict[str, Any]:
        """What `from_config` needs: the model's architecture, and how many codes there are."""
        assert isinstance(self.model, VQDecoder)
        return {
            "architecture": type(self.model).__name__,
            "config": config_of(self.model, types=(type(self.model.family),)),
            "codes": list(self.codes.shape),
            "decoder_alone": self.is_alone,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DecoderSource:
        """A source of the same shape; `load_state_dict` fills in the weights and the codes."""
        name = config["architecture"]
        if name not in cls.architectures:
            known = ", ".join(cls.architectures)
            raise FileFormatError(
                f"the circuit's source is a model {name!r}, and only {known} can be rebuilt: "
                f"pass load_circuit(path, architectures={{{name!r}: (its config's class, its class)}})"
            )
        config_class, build = cls.architectures[name]
        with seeded(torch.Generator().manual_seed(0)):
            model = build(config_from_dict(config_class, config["config"], cls.families))
        source = cls(model, torch.zeros(tuple(config["codes"]), dtype=torch.int64))
        if not config.get("decoder_alone", False):  # older files hold the encoder too
            source.model, source.is_alone = model.eval(), False
        return source


def distil(
    source: VQDecoder,
    codes: CodeSet,
    weights: Weights | Float[Tensor, "..."] = "uniform",
    *,
    classes: bool = False,
    eager: bool = False,
) -> pc.Circuit:
    """A circuit from a VQ model and codes: c(x) = Σ_n w_n Π_v p(x_v | z_n).

    With `weights="uniform"`, w_n = 1/N: equation (2) of the paper. With `"prior"`, w_n = p(z_n) / Σ_m p(z_m). With
    `"bound"`, w_n = p(z_n): not normalised, below the teacher's p(x) = Σ_z p(z) p(x|z) everywhere, rising over nested
    sets, and equal to it when the set is every code.

    **Arguments**

    - `source`: the VQ model, or its decoder: anything with `likelihood(codes)` (see `vq_sources.protocols.VQDecoder`).
    - `codes`: N distinct codes with their log-probabilities under a prior.
    - `weights`: a name as above; or w_n >= 0 itself, (N,), or (C, N) with a root for each of C classes. Weights that
      sum to 1 stay so in training.
    - `classes`: one root for each class, from `codes.log_joint`: "prior" gives p(x | c) on the set, "bound" gives lower
      bounds of p(x, c).
    - `eager`: decode once, and keep 2·N·D parameters that can be trained freely; by default a copy of the decoder is
      the source of all parameters, and trains as a whole. Either way the circuit is of the model as it is now: training
      the model on does not change it.

    **Raises** `ParameterError` for weights that do not fit, `SelectionError` for `classes` without `log_joint`,
    `DataError` for codes of another grid.

    **Source** "Distillation of a tractable model from the VQ-VAE", arXiv 2509.01400, equation (2).

    >>> from vq_sources import IndependentPrior, selection
    >>> model = VQVAE(VQVAEConfig(num_codes=2, hidden=8), torch.Generator().manual_seed(0))
    >>> model.prepare((torch.randint(17, (20, 8, 8), generator=torch.Generator().manual_seed(0)),))
    >>> codes = selection.enumerate(IndependentPrior(model.grid, num_codes=2))
    >>> circuit = distil(model, codes, weights="bound")
    >>> circuit.root.shape, len(circuit.variables), bool(circuit.check().normalised)  # all 16 codes: the teacher itself
    ((1, 1), 64, True)
    """
    if codes.grid != tuple(source.grid):
        raise DataError(f"the codes are of a grid {codes.grid}, and the source's is {tuple(source.grid)}")
    check_codes(codes.codes, source.cardinalities)
    height, width = source.data_shape
    variables = range(height * width)
    if eager:
        with torch.no_grad():
            made = {name: value.T for name, value in source.likelihood(codes.codes).items()}
        pixels = pc.inputs(source.family, variables, {name: value.contiguous().cpu() for name, value in made.items()})
    else:
        if not isinstance(source, nn.Module):
            raise ParameterError("a source without weights of its own cannot be kept: distil with eager=True")
        pixels = pc.inputs(
            source.family, variables, pc.Sourced(DecoderSource(source, codes.codes), len(variables), len(codes))
        )
    return pc.Circuit(pixels.prod().sum(_weights(codes, weights, classes)), variables=list(variables))


def _weights(codes: CodeSet, weights: Weights | Tensor, classes: bool) -> pc.Parameter:
    """The weights of the sum, (N,) or (C, N)."""
    if isinstance(weights, Tensor):
        return _given(weights, len(codes))
    if classes and codes.log_joint is None:
        raise SelectionError("a root for each class needs codes.log_joint: choose codes by a class-conditional prior")
    log = codes.log_joint.T if classes and codes.log_joint is not None else codes.log_weights
    log = log.detach().to(torch.float64).cpu()
    if weights == "uniform":
        return pc.Parameter(
            torch.full(log.shape, 1 / len(codes), dtype=torch.float64), pc.simplex, name="the weights 1/N"
        )
    if weights == "prior":
        return pc.Parameter(torch.softmax(log, -1), pc.simplex, name="the weights p(z)")
    if weights == "bound":
        return pc.Parameter(log.exp(), pc.nonnegative, name="the weights p(z)")
    raise ParameterError(f'weights are "uniform", "prior", "bound" or a tensor, not {weights!r}')


def _given(weights: Tensor, count: int) -> pc.Parameter:
    if weights.ndim not in (1, 2) or weights.shape[-1] != count:
        raise ParameterError(
            f"weights of {count} codes have shape {tuple(weights.shape)}; they need ({count},) or (C, {count})"
        )
    value = weights.detach().cpu()
    level = bool(((value.sum(-1) - 1).abs() < 1e-6).all())
    value = value / value.sum(-1, keepdim=True) if level else value
    return pc.Parameter(value, pc.simplex if level else pc.nonnegative, name="the weights of the codes")


def load_circuit(
    path: str | os.PathLike[str], types: tuple[type, ...] = (), architectures: Mapping[str, Any] | None = None
) -> pc.Circuit:
    """A circuit from a file, with its VQ-VAE where that is the source of its parameters.

    **Arguments**

    - `path`: what `pcircuits.save` wrote.
    - `types`: families of the user's, also those of a VQ model's pixels, and further sources.
    - `architectures`: VQ models of the user's: name of the class to (class of its config, constructor from a config).

    **Raises** `FileFormatError` as `pcircuits.load`.
    """
    known = {**DecoderSource.architectures, **(architectures or {})}
    families = tuple(cls for cls in types if isinstance(cls, type) and issubclass(cls, AbstractFamily))
    source = type("DecoderSource", (DecoderSource,), {"architectures": known, "families": families})
    return pc.load(path, types=(source if architectures or families else DecoderSource, *types))
