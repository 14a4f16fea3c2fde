"""What the estimators share: reading tables, learning a circuit, and its queries in the user's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from pcircuits.sklearn.columns import Column, Numbers, Raw, decoded, encoded, learned_columns, raw_columns
from pcircuits.sklearn.files import read_estimator, write_estimator
from pcircuits.sklearn.fitting import STRUCTURES, Learning

__all__ = ["AbstractCircuitEstimator"]

UNSEEN = ("refuse", "state", "missing")


class AbstractCircuitEstimator(BaseEstimator):  # type: ignore[misc]
    """An estimator whose model is a circuit over the columns of the table that it was fitted to."""

    def __init__(
        self,
        *,
        structure: str = "hidden_tree",
        width: int | None = None,
        column_types: dict[Any, str] | None = None,
        unseen: str = "refuse",
        epochs: int = 100,
        batch_size: int | None = None,
        pseudocount: float = 0.1,
        minimum_scale: float = 0.02,
        validation_fraction: float = 0.1,
        patience: int = 5,
        random_state: Any = None,
    ) -> None:
        self.structure = structure
        self.width = width
        self.column_types = column_types
        self.unseen = unseen
        self.epochs = epochs
        self.batch_size = batch_size
        self.pseudocount = pseudocount
        self.minimum_scale = minimum_scale
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state

    def encode(self, X: Any) -> torch.Tensor:
        """A table as evidence for `model_`: (B, D) in float64, states of categories by number, NaN where it is missing."""
        check_is_fitted(self)
        return torch.as_tensor(self._encoded(X))

    circuits: tuple[str, ...] = ("model_",)
    """The attributes that are circuits, and those that are arrays: what `save` writes."""
    arrays: tuple[str, ...] = ()

    def save(self, path: str | Path) -> None:
        """Write the fitted estimator to one file, without pickle; the history of training is left out.

        **Raises** `FileFormatError` for categories and labels that are neither strings nor numbers.
        """
        check_is_fitted(self)
        write_estimator(self, list(self.circuits), list(self.arrays), path)

    @classmethod
    def load(cls, path: str | Path) -> Any:
        """The estimator that `save` wrote. **Raises** `FileFormatError` for a file of anything else."""
        return read_estimator(cls, path)

    def _fit_columns(self, X: Any) -> Numbers:
        """Learn what the columns are; the table as numbers."""
        if self.structure not in STRUCTURES:
            raise ValueError(f"structure is {self.structure!r}: it must be one of {', '.join(STRUCTURES)}")
        if self.unseen not in UNSEEN:
            raise ValueError(f"unseen is {self.unseen!r}: it must be one of {', '.join(UNSEEN)}")
        raws = self._raws(X, reset=True)
        self.columns_: list[Column] = learned_columns(raws, self.column_types, self.unseen)
        self._like = _head(X)
        return encoded(self.columns_, raws, self.unseen)

    def _encoded(self, X: Any) -> Numbers:
        return encoded(self.columns_, self._raws(X, reset=False), self.unseen)

    def _raws(self, X: Any, reset: bool) -> list[Raw]:
        """The columns, checked against those that were fitted: their number, their names, and their order."""
        if hasattr(X, "columns") and not callable(X.columns):
            raws = raw_columns(X)  # first, since it names the column that is wrong
            validate_data(self, X, reset=reset, skip_check_array=True)
            if not raws or not len(X):
                raise ValueError(
                    f"Found array with {len(X)} sample(s) and {len(raws)} feature(s): at least 1 is required"
                )
            return raws
        found = validate_data(self, X, reset=reset, dtype=None, ensure_all_finite="allow-nan", ensure_min_samples=1)
        return raw_columns(found)

    def _learning(self) -> Learning:
        return Learning(
            self.structure,
            self.width,
            self.epochs,
            self.batch_size,
            self.pseudocount,
            self.minimum_scale,
            self.validation_fraction,
            self.patience,
        )

    def _generator(self, random_state: Any = None) -> torch.Generator:
        numbers = check_random_state(self.random_state if random_state is None else random_state)
        return torch.Generator().manual_seed(int(numbers.randint(2**31 - 1)))

    def _decoded(self, values: torch.Tensor, whole: bool, like: Any = None) -> Any:
        made = values.detach().double().numpy().astype(np.float64)
        return decoded(self.columns_, made, self._like if like is None else like, whole)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = False
        return tags


def _head(table: Any) -> Any:
    """No rows of a data frame, by which answers know what to be; None for arrays."""
    return table[:0] if hasattr(table, "columns") and not callable(table.columns) else None
