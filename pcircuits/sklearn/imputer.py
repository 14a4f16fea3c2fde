"""`CircuitImputer`: fills in the missing cells of a table."""

from __future__ import annotations

from typing import Any

import torch
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from pcircuits.sklearn.base import AbstractCircuitEstimator
from pcircuits.sklearn.fitting import learned_circuit

__all__ = ["CircuitImputer"]

STRATEGIES = ("mean", "median", "mode", "sample")


class CircuitImputer(OneToOneFeatureMixin, TransformerMixin, AbstractCircuitEstimator):  # type: ignore[misc]
    """Fills in what a row misses from what it has, by the joint distribution of the columns.

    **Arguments**

    - `strategy`: "mean" takes the conditional mean of numbers, and the most probable state of categories; "median" the
      median of numbers; "mode" completes a row by the most probable values together (of those that a pass of maxima finds);
      "sample" draws.
    - The others are those of `CircuitDensity`.

    **Attributes**: those of `CircuitDensity`.

    >>> import numpy as np
    >>> x = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [np.nan, 1.0]])
    >>> bool(np.isnan(CircuitImputer(width=1).fit_transform(x)).any())
    False
    """

    def __init__(
        self,
        *,
        strategy: str = "mean",
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
        super().__init__(
            structure=structure,
            width=width,
            column_types=column_types,
            unseen=unseen,
            epochs=epochs,
            batch_size=batch_size,
            pseudocount=pseudocount,
            minimum_scale=minimum_scale,
            validation_fraction=validation_fraction,
            patience=patience,
            random_state=random_state,
        )
        self.strategy = strategy

    def fit(self, X: Any, y: Any = None) -> CircuitImputer:
        """Learn the joint distribution of a table (B, D); `y` is ignored. **Raises** as `CircuitDensity.fit`."""
        if self.strategy not in STRATEGIES:
            raise ValueError(f"strategy is {self.strategy!r}: it must be one of {', '.join(STRATEGIES)}")
        table = self._fit_columns(X)
        circuit, self.history_ = learned_circuit(self.columns_, table, self._learning(), self._generator())
        self.model_ = circuit.compile(dtype=torch.float64)
        return self

    def transform(self, X: Any) -> Any:
        """The table with its missing cells filled in; cells that are there stay as they are."""
        check_is_fitted(self)
        x = self.encode(X)
        return self._decoded(self._filled(x), whole=self.strategy in ("mode", "sample"), like=X)

    def sample_imputations(self, X: Any, n: int = 5, random_state: Any = None) -> list[Any]:
        """n tables, in each of which the missing cells are drawn together: multiple imputation."""
        check_is_fitted(self)
        drawn = self.model_.given(self.encode(X)).sample(n, self._generator(random_state))
        return [self._decoded(one, whole=True, like=X) for one in drawn]

    def _filled(self, x: torch.Tensor) -> torch.Tensor:
        holes = x.isnan()
        rows = holes.any(1).nonzero().squeeze(1)
        if not len(rows):
            return x
        given = self.model_.given(x[rows])
        if self.strategy == "sample":
            made = given.sample(1, self._generator())[0]
        elif self.strategy == "mode":
            made = given.map(exact=False).assignment
        else:
            made = given.mean() if self.strategy == "mean" else given.quantile(0.5)
            if any(column.count for column in self.columns_):
                best = given.marginal_modes()
                made = torch.stack([best.get(c.name, made[:, i]) for i, c in enumerate(self.columns_)], 1)
        filled = x.clone()
        filled[rows] = torch.where(holes[rows], made, x[rows])
        return filled
