"""The ways of choosing codes, by name."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import torch
from jaxtyping import Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pcircuits.errors import FileFormatError
from vq_sources import selection
from vq_sources.codes import CodeSet
from vq_sources.priors import AutoregressivePrior
from vq_sources.report import write_bytes

__all__ = ["Method", "WeightsName", "choose", "read_selection", "write_selection"]


class Method(StrEnum):
    """How codes are chosen."""

    exact = "exact"
    ancestral = "ancestral"
    beam = "beam"
    stochastic_beam = "stochastic_beam"
    paper_beam = "paper_beam"
    encoded = "encoded"


class WeightsName(StrEnum):
    """How components are weighed."""

    uniform = "uniform"
    prior = "prior"
    bound = "bound"


def choose(
    method: Method, prior: AutoregressivePrior, size: int | None, train_codes: Int64[Tensor, "M P"], seed: int
) -> CodeSet:
    """`size` codes chosen by a method; every code there is, for the exact model without a size.

    **Arguments**

    - `prior`: over the codes.
    - `size`: N; None only for `Method.exact`.
    - `train_codes`: of the training images, for `Method.encoded`.
    - `seed`: of what is drawn.

    **Raises** `SelectionError` as the selections do.
    """
    generator = torch.Generator().manual_seed(seed)
    if method is Method.exact or size is None:
        return selection.enumerate(prior, size)
    if method is Method.encoded:
        return selection.encoded(prior, size, train_codes)
    by_prior = {
        Method.ancestral: selection.ancestral,
        Method.beam: selection.beam,
        Method.stochastic_beam: selection.stochastic_beam,
        Method.paper_beam: selection.paper_beam,
    }
    return by_prior[method](prior, size, generator=generator)


def write_selection(path: Path, codes: CodeSet) -> None:
    """Write a set of codes to one safetensors file, whole or not at all."""
    tensors, metadata = codes.to("cpu").to_tensors()
    write_bytes(path, save(tensors, metadata=metadata))


def read_selection(path: Path) -> CodeSet:
    """The set of codes in a file.

    **Raises** `FileFormatError` where it is damaged, or no set of codes.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
            return CodeSet.from_tensors(tensors, file.metadata() or {})
    except (SafetensorError, ValueError, RuntimeError) as error:  # what no whole file holds, wherever it is noticed
        raise FileFormatError(f"{path} cannot be read ({error}): delete it, and it is made again") from error
