"""How much of a codebook is in use."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Integer
from torch import Tensor

from vq_sources.protocols import check_codes, check_tensor

__all__ = ["CodebookReport", "codebook_report", "perplexity"]


@dataclass(frozen=True)
class CodebookReport:
    """The use of a codebook over a whole split.

    **Arguments**

    - `images`: how many grids of codes were counted.
    - `num_codes`: K.
    - `perplexity`: exp of the entropy of the codes' frequencies over all positions, between 1 and K.
    - `active_codes`: how many of the K codes appear at all.
    - `distinct_grids`: how many different grids appear: at most `images`, and at most K^P.
    """

    images: int
    num_codes: int
    perplexity: float
    active_codes: int
    distinct_grids: int


def codebook_report(codes: Integer[Tensor, "N P"], num_codes: int) -> CodebookReport:
    """Perplexity, active codes and distinct grids of the codes of a split.

    **Raises** `DataError` for codes that are not integers (N, P) in 0..K−1.

    **Example**

    >>> codes = torch.tensor([[0, 1], [0, 1], [1, 0], [1, 0]])
    >>> codebook_report(codes, num_codes=3)
    CodebookReport(images=4, num_codes=3, perplexity=2.0, active_codes=2, distinct_grids=2)
    """
    check_tensor(codes, "codes")
    check_codes(codes, (num_codes,) * (codes.shape[1] if codes.ndim == 2 else 1))
    return CodebookReport(
        images=len(codes),
        num_codes=num_codes,
        perplexity=perplexity(codes, num_codes),
        active_codes=int(torch.unique(codes).numel()),
        distinct_grids=len(torch.unique(codes, dim=0)),
    )


def perplexity(codes: Integer[Tensor, "N P"], num_codes: int) -> float:
    """exp(−Σ_k f_k log f_k), f_k the frequency of code k over all rows and positions; 0 where there are no codes.

    **Example**

    >>> perplexity(torch.tensor([[0, 1, 2, 3]]), num_codes=8)
    4.0
    """
    counts = torch.bincount(codes.flatten(), minlength=num_codes).to(torch.float64)
    frequencies = counts / counts.sum().clamp(min=1)
    return float(torch.special.entr(frequencies).sum().exp()) if codes.numel() else 0.0
