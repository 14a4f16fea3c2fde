"""The ways of choosing codes, by name."""

from __future__ import annotations

from enum import StrEnum

import torch
from jaxtyping import Int64
from torch import Tensor

from vq_sources import selection
from vq_sources.codes import CodeSet
from vq_sources.priors import AutoregressivePrior

__all__ = ["Method", "WeightsName", "choose"]


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
