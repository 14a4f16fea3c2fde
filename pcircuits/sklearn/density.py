"""`CircuitDensity`: the joint distribution of the columns of a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import DensityMixin
from sklearn.utils.validation import check_is_fitted

from pcircuits.queries.compiled import CompiledCircuit
from pcircuits.sklearn.base import AbstractCircuitEstimator
from pcircuits.sklearn.columns import Raw
from pcircuits.sklearn.fitting import learned_circuit

__all__ = ["CircuitDensity"]


class CircuitDensity(DensityMixin, AbstractCircuitEstimator):  # type: ignore[misc]
    """The joint distribution of the columns of a table with missing cells, as a circuit that answers any query exactly.

    Columns of floats are continuous, those of integers from 0 are counts, strings are categories. Continuous
    columns are standardised inside; densities are in the units of the table.

    **Arguments**

    - `structure`: "hidden_tree", a hidden Chow-Liu tree, or "mixture", a mixture of products.
    - `width`: the states of a latent, or the components of a mixture; None takes one for ten rows, 16 at most.
    - `column_types`: by column "continuous", "counts", "categories" or "booleans", where it is not what it looks like.
    - `unseen`: what becomes of categories that were not in the table: "refuse" raises, "state" gives them a state of their
      own, "missing" takes them as missing.
    - `epochs`, `batch_size`, `pseudocount`, `minimum_scale`, `patience`: of expectation-maximisation, see
      `pcircuits.learning.EMSettings`. Scales are in units of the spread of a column. A `batch_size` of None takes all rows
      of up to 10,000 together, and of more 2,000.
    - `validation_fraction`: the share of rows, of 50 or more, that says when to stop.
    - `random_state`: an int, a `numpy.random.RandomState`, or None.

    **Attributes**

    - `model_`: the compiled circuit over the names of the columns, for every query; `encode(X)` makes evidence for it.
    - `columns_`: of each column its kind, and its states.
    - `history_`: of training.

    >>> import numpy as np
    >>> x = np.array([[0.0, 0.1], [1.0, np.nan], [2.0, 1.9], [np.nan, 3.0]])
    >>> CircuitDensity(width=1).fit(x).score_samples(x).shape
    (4,)
    """

    model_: CompiledCircuit

    def fit(self, X: Any, y: Any = None) -> CircuitDensity:
        """Learn structure and parameters from a table (B, D); `y` is ignored.

        **Raises** `ValueError` or `TypeError` naming the column that is wrong: dates, infinities, nothing but missing values.
        """
        table = self._fit_columns(X)
        generator = self._generator()
        circuit, self.history_ = learned_circuit(self.columns_, table, self._learning(), generator)
        self.model_ = circuit.compile(dtype=torch.float64)
        return self

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """The log-density of each row, (B,), in the units of the table; missing cells are integrated out."""
        x = self.encode(X)
        with torch.no_grad():
            return self.model_.log_prob(x).numpy()

    def score(self, X: Any, y: Any = None) -> float:
        """The mean log-density of the rows: what `GridSearchCV` makes as large as it can."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, given: Any = None, random_state: Any = None) -> Any:
        """Rows from the distribution, as a table like the one that was fitted.

        **Arguments**

        - `given`: a table of one row, or a dict from columns to values; what is missing in it is drawn, n_samples times.
        - `random_state`: by default that of the estimator.
        """
        check_is_fitted(self)
        generator = self._generator(random_state)
        if given is None:
            return self._decoded(self.model_.sample(n_samples, generator), whole=True)
        known = self._given(given)
        if len(known) != 1:
            raise ValueError(f"sample is given one row, not {len(known)}: CircuitImputer fills in many")
        return self._decoded(self.model_.given(known).sample(n_samples, generator)[:, 0], whole=True)

    def state_probabilities(self, X: Any) -> dict[int | str, tuple[list[Any], NDArray[np.float64]]]:
        """For each column of categories or booleans its states, and their probabilities (B, S) given the rest of each row."""
        tables = self.model_.given(self.encode(X)).state_probabilities()
        states = {c.name: [*c.states, *(["unseen"] if c.unseen else [])] for c in self.columns_ if c.count}
        return {name: (states[name], tables[name].numpy()) for name in states}

    def _given(self, given: Any) -> torch.Tensor:
        if not isinstance(given, dict):
            return self.encode(given if hasattr(given, "columns") or np.ndim(given) == 2 else np.atleast_2d(given))
        known = {column.name: column for column in self.columns_}
        row = np.full((1, len(self.columns_)), np.nan)
        for number, column in enumerate(self.columns_):
            if column.name in given:
                value = np.empty(1, dtype=object)
                value[0] = given[column.name]
                row[0, number] = column.encode(Raw(column.name, value), self.unseen == "refuse")[0]
        if unknown := [name for name in given if name not in known]:
            raise ValueError(f"given names {unknown[0]!r}, and there is no such column: there are {list(known)}")
        return torch.as_tensor(row)
