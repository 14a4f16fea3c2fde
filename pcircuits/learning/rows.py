"""Rows of data with what else is known of each: how much it counts, and which root it is a sample of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pcircuits.evidence import EvidenceLike
from pcircuits.learning.errors import TrainingError
from pcircuits.queries.compiled import CompiledCircuit

__all__ = ["Rows"]


@dataclass(frozen=True)
class Rows:
    """Data (B, D) in any form that evidence has, with a weight and a root for each row.

    **Arguments**

    - `x`: evidence; what is missing (NaN) is summed out.
    - `weights`: (B,), finite and at least 0; a row of weight 2 counts as if it were there twice.
    - `roots`: (B,), integers: the class of each row, for a circuit with a root for each class.

    **Example**

    >>> Rows(torch.zeros(2, 1), roots=torch.tensor([0, 1])).roots.tolist()
    [0, 1]
    """

    x: EvidenceLike
    weights: Tensor | None = None
    roots: Tensor | None = None

    @classmethod
    def tensors(cls, model: CompiledCircuit, data: object, name: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The data (B, D) with NaN for what is missing, weights, roots, and numbers of rows, (B,) each.

        **Raises** `EvidenceError` for values that no evidence has, `TrainingError` for weights and roots that do not fit.
        """
        given = data if isinstance(data, cls) else cls(data)  # type: ignore[arg-type]
        known = model._given().read(given.x)
        x = torch.where(known.observed, known.x, torch.nan)
        count = len(x)
        if count == 0:
            raise TrainingError(f"The {name} data has no rows; give at least one.")
        weights = _of_rows(given.weights, count, f"weights of the {name} data", torch.ones(count))
        if not bool((weights.isfinite() & (weights >= 0)).all()):
            raise TrainingError(f"The weights of the {name} data must be finite and at least 0.")
        roots = _of_rows(given.roots, count, f"roots of the {name} data", torch.zeros(count, dtype=torch.int64))
        most = model.circuit.num_roots
        if roots.is_floating_point() or not bool(((roots >= 0) & (roots < most)).all()):
            raise TrainingError(f"The roots of the {name} data must be integers within 0..{most - 1}.")
        if given.roots is None and most > 1:
            raise TrainingError(
                f"The circuit has {most} roots: say which one each row of the {name} data is a sample of, "
                "Rows(x, roots=labels)."
            )
        return x, weights.to(x), roots.to(x.device), torch.arange(count, device=x.device)


def _of_rows(given: object, count: int, name: str, default: Tensor) -> Tensor:
    if given is None:
        return default
    found = torch.as_tensor(given)
    if found.shape != (count,):
        raise TrainingError(f"The {name} have shape {tuple(found.shape)}, and there are {count} rows: one for each.")
    return found
