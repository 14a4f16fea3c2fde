"""Distillation: a VQ model and a set of codes become a circuit, one product over pixels for each code under one sum."""

from __future__ import annotations

import copy
import operator
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

import pcircuits as pc
from pcircuits import rounding
from pcircuits.errors import FileFormatError, ParameterError
from pcircuits.families import AbstractFamily
from pcircuits.scope import Variable
from vq_sources.codes import CodeSet
from vq_sources.errors import DataError, SelectionError
from vq_sources.models.config import GMVQConfig, GMVQDrawsConfig, PatchVQVAEConfig, VQVAEConfig
from vq_sources.models.files import Architectures, config_from_dict, config_of
from vq_sources.models.gmvq import GMVQ, GMVQDraws
from vq_sources.models.patch_vqvae import PatchVQVAE
from vq_sources.models.vqvae import VQVAE
from vq_sources.protocols import LeafGroup, VQDecoder, check_codes, grid_of, leaf_groups, likelihood_by_group
from vq_sources.quantizers.seeding import seeded

__all__ = ["DecoderSource", "Weights", "component_weights", "distil", "in_column_order", "leaf_units", "load_circuit"]

Weights = Literal["uniform", "prior", "bound"]
"""How components are weighed: 1/N; p(z) renormalised on the set; or p(z) itself, a lower bound of the teacher."""


class DecoderSource(nn.Module):
    """The decoder of a VQ model as a source of leaf parameters: column n is decoded from code n when it is asked for.

    A circuit never changes, so the decoder is copied once, here: training the model on changes no circuit. A model that
    has `decoder_alone()` (see `vq_sources.protocols.VQDecoder`) is copied without what the likelihood does not need.

    **Arguments**

    - `model`: a VQ model that is an `nn.Module`; a copy is kept, in evaluation mode.
    - `codes`: (N, P) int64; likewise.
    - `group`: which of the model's families it makes parameters of, a number in `vq_sources.protocols.leaf_groups`.

    **Raises** `ParameterError` for a model that is no module or lacks what `VQDecoder` asks for, `DataError` for codes
    that do not fit it.
    """

    architectures: ClassVar[Architectures] = {
        "VQVAE": (VQVAEConfig, VQVAE),
        "PatchVQVAE": (PatchVQVAEConfig, PatchVQVAE),
        "GMVQ": (GMVQConfig, GMVQ),
        "GMVQDraws": (GMVQDrawsConfig, GMVQDraws),
    }
    families: ClassVar[tuple[type[AbstractFamily], ...]] = ()
    """Families of the user's that models from files may have."""
    codes: Tensor

    def __init__(self, model: nn.Module, codes: Int64[Tensor, "N P"], group: int = 0) -> None:
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
        self.group = group

    def parameters_for(self, columns: Int64[Tensor, " n"]) -> dict[str, Tensor]:
        """The parameters of every variable of the group under the chosen codes, each (D, n, *event)."""
        assert isinstance(self.model, VQDecoder)
        made = likelihood_by_group(self.model, self.codes[columns])[self.group]
        return {name: value.transpose(0, 1) for name, value in made.items()}

    def to_config(self) -> dict[str, Any]:
        """What `from_config` needs: the model's architecture, and how many codes there are."""
        assert isinstance(self.model, VQDecoder)
        return {
            "architecture": type(self.model).__name__,
            "config": config_of(self.model, types=[type(group.family) for group in leaf_groups(self.model)]),
            "codes": list(self.codes.shape),
            "decoder_alone": self.is_alone,
            "group": self.group,
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
        source = cls(model, torch.zeros(tuple(config["codes"]), dtype=torch.int64), config.get("group", 0))
        if not config.get("decoder_alone", False):  # older files hold the encoder too
            source.model, source.is_alone = model.eval(), False
        return source


def distil(
    source: VQDecoder,
    codes: CodeSet,
    weights: Weights | Float[Tensor, "..."] = "uniform",
    *,
    classes: bool | Sequence[int] = False,
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
    - `classes`: True for one root for each class, from `codes.log_joint`, or the classes to make roots for, in their
      order: "prior" gives p(x | c) on the set, "bound" gives lower bounds of p(x, c), which are 0 for a class of
      probability zero.
    - `eager`: decode once, and keep 2·N·D parameters that can be trained freely; by default a copy of the decoder is
      the source of all parameters, and trains as a whole. Either way the circuit is of the model as it is now: training
      the model on does not change it.

    **Raises** `ParameterError` for weights that do not fit, `SelectionError` for `classes` without `log_joint`, unknown
    classes, and p(x | c) of a class that has probability zero on the set; `DataError` for codes of another grid.

    **Source** "Distillation of a tractable model from the VQ-VAE", arXiv 2509.01400, equation (2).

    >>> from vq_sources import IndependentPrior, selection
    >>> model = VQVAE(VQVAEConfig(num_codes=2, hidden=8), torch.Generator().manual_seed(0))
    >>> model.prepare((torch.randint(17, (20, 8, 8), generator=torch.Generator().manual_seed(0)),))
    >>> codes = selection.enumerate(IndependentPrior(model.grid, num_codes=2))
    >>> circuit = distil(model, codes, weights="bound")
    >>> circuit.root.shape, len(circuit.variables), bool(circuit.check().normalised)  # all 16 codes: the teacher itself
    ((1, 1), 64, True)
    """
    if codes.grid != grid_of(source):
        raise DataError(f"the codes are of a grid {codes.grid}, and the source's is {grid_of(source)}")
    check_codes(codes.codes, source.cardinalities)
    units, labels = leaf_units(source, codes.codes, eager, "distil")
    return pc.Circuit(units.prod().sum(component_weights(codes, weights, classes)), variables=labels)


def leaf_units(
    source: VQDecoder, codes: Int64[Tensor, "N P"], eager: bool, asked: str
) -> tuple[pc.Units, list[Variable]]:
    """Input units (D, N) of every variable under every code, in the order of the columns, and the variables' labels.

    A source that has several families is kept once for each of them.

    **Arguments**

    - `eager`: whether to keep the parameters, or the decoder as their source.
    - `asked`: the function that asks, for its error.
    """
    groups = leaf_groups(source)
    if not eager and not isinstance(source, nn.Module):
        raise ParameterError(f"a source without weights of its own cannot be kept: {asked} with eager=True")
    arrays: list[pc.Units] = []
    for number, group in enumerate(groups):
        parameters: dict[str, Tensor] | pc.Sourced
        if eager:
            with torch.no_grad():
                made = likelihood_by_group(source, codes)[number]
                parameters = {name: value.transpose(0, 1).contiguous().cpu() for name, value in made.items()}
        else:
            assert isinstance(source, nn.Module)
            parameters = pc.Sourced(DecoderSource(source, codes, number), len(group.labels), len(codes))
        arrays.append(pc.inputs(group.family, group.labels, parameters))
    return in_column_order(groups, arrays)


def in_column_order(groups: Sequence[LeafGroup], arrays: Sequence[pc.Units]) -> tuple[pc.Units, list[Variable]]:
    """The units of each group as one array (D, N), a region for each column of the data, and the variables' labels."""
    if len(arrays) == 1:
        return arrays[0], list(groups[0].labels)
    columns = [column for group in groups for column in group.columns]
    order = sorted(range(len(columns)), key=columns.__getitem__)
    labels = [label for group in groups for label in group.labels]
    return pc.concat(arrays, axis="regions")[order], [labels[i] for i in order]


def component_weights(codes: CodeSet, weights: Weights | Tensor, classes: bool | Sequence[int] = False) -> pc.Parameter:
    """The weights of the sum, (N,) or (C, N)."""
    if isinstance(weights, Tensor):
        if not isinstance(classes, bool):
            raise ParameterError("weights that are a tensor have a row for each root: leave classes out")
        return _given(weights, len(codes))
    if classes is False:
        log, chosen = codes.log_weights, list[int]()
    else:
        log, chosen = _of_classes(codes, classes)
    log = log.detach().to(torch.float64).cpu()  # kept as logarithms: p(z) of a large grid is below the smallest float
    if weights == "uniform":
        return pc.Parameter(
            torch.full(log.shape, 1 / len(codes), dtype=torch.float64), pc.simplex, name="the weights 1/N"
        )
    if weights == "prior":
        _refuse_impossible(log, chosen)
        return pc.Parameter.from_log(torch.log_softmax(log, -1), pc.simplex, name="the weights p(z) on the set")
    if weights == "bound":
        return pc.Parameter.from_log(log, pc.nonnegative, name="the weights p(z)")
    raise ParameterError(f'weights are "uniform", "prior", "bound" or a tensor, not {weights!r}')


def _of_classes(codes: CodeSet, classes: bool | Sequence[int]) -> tuple[Float64[Tensor, "C N"], list[int]]:
    """log p(c, z) of the chosen classes, and which these are."""
    if codes.log_joint is None:
        raise SelectionError("a root for each class needs codes.log_joint: choose codes by a class-conditional prior")
    count = codes.log_joint.shape[1]
    if isinstance(classes, bool):
        return codes.log_joint.T, list(range(count))
    try:
        chosen = [operator.index(c) for c in classes]
    except TypeError as error:
        raise SelectionError(f"classes is True, False or a list of integers, not {classes!r}") from error
    wrong = [c for i, c in enumerate(chosen) if not 0 <= c < count or c in chosen[:i]]
    if wrong or not chosen:
        what = f"{wrong[0]} is unknown, or there twice" if wrong else "there are none"
        raise SelectionError(f"classes are distinct integers in 0..{count - 1}, at least one; in {chosen} {what}")
    return codes.log_joint[:, chosen].T, chosen


def _refuse_impossible(log: Float64[Tensor, "..."], classes: list[int]) -> None:
    """Raise where p(z) cannot be renormalised on the set, because it is zero on all of it."""
    possible = (log > -torch.inf).any(-1)
    if bool(possible.all()):
        return
    if not classes:
        raise SelectionError('every code of the set has probability zero under the prior: choose weights="uniform"')
    absent = [c for c, there in zip(classes, possible.tolist(), strict=True) if not there]
    present = [c for c in classes if c not in absent]
    raise SelectionError(
        f"class{'es' if len(absent) > 1 else ''} {', '.join(map(str, absent))} cannot have a root p(x | c): every code of the "
        f"set has probability zero there, as for a class without training images. Pass classes={present}, or take "
        'weights="bound", whose root p(x, c) is zero'
    )


def _given(weights: Tensor, count: int) -> pc.Parameter:
    if weights.ndim not in (1, 2) or weights.shape[-1] != count:
        raise ParameterError(
            f"weights of {count} codes have shape {tuple(weights.shape)}; they need ({count},) or (C, {count})"
        )
    value = weights.detach().cpu()
    if value.is_complex():
        raise ParameterError(f"the weights of codes are real numbers, not {value.dtype}")
    slack = max(1e-6, rounding.of_dtype(value.dtype, value.shape[-1])) if value.is_floating_point() else 0.0
    value = value.double()
    level = bool(((value.sum(-1) - 1).abs() <= slack).all())
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
