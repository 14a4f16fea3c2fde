"""`CircuitClassifier`: classes by Bayes' rule, with a circuit for each class."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from pcircuits.circuit.algebra import concat
from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.leaves import Categorical
from pcircuits.sklearn.base import AbstractCircuitEstimator
from pcircuits.sklearn.fitting import labels_of, learned_circuit

__all__ = ["CircuitClassifier"]


class CircuitClassifier(ClassifierMixin, AbstractCircuitEstimator):  # type: ignore[misc]
    """P(class | row) ∝ P(class) p(row | class), exact for rows with any cells missing.

    **Arguments**: those of `CircuitDensity`, for the circuit of each class.

    **Attributes**

    - `classes_`: the labels.
    - `model_`: the joint circuit of the columns and of the variable `class_name_`, the number of the class.
    - `class_model_`: a circuit with a root for each class: p(row | class).
    - `columns_`, `histories_`: of the columns, and of training.

    >>> import numpy as np
    >>> x, y = np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [5.3]]), np.array(list("aaabbb"))
    >>> CircuitClassifier(width=1).fit(x, y).predict([[0.05], [5.2]]).tolist()
    ['a', 'b']
    """

    circuits: tuple[str, ...] = ("model_", "class_model_")
    arrays: tuple[str, ...] = ("classes_", "class_prior_")

    def fit(self, X: Any, y: Any) -> CircuitClassifier:
        """Learn a circuit for each class from a table (B, D) and labels (B,).

        **Raises** `ValueError` for missing labels and one class only, and as `CircuitDensity.fit`.
        """
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        table = self._fit_columns(X)
        labels = _labels(y)
        check_consistent_length(table, labels)
        check_classification_targets(labels)
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        generator = self._generator()
        made = [
            learned_circuit(self.columns_, table[numbers == number], self._learning(), generator)
            for number in range(len(self.classes_))
        ]
        self.histories_ = [history for _, history in made]
        counts = np.bincount(numbers).astype(np.float64)
        self.class_prior_ = counts / counts.sum()
        variables = labels_of(self.columns_)
        self.class_name_ = _free_name(variables)
        roots = concat([circuit.root for circuit, _ in made], axis="width")
        self.class_model_ = Circuit(roots, variables).compile(dtype=torch.float64)
        chosen = Categorical(self.class_name_, np.eye(len(counts)))
        joint = (chosen * roots).sum(torch.as_tensor(self.class_prior_))
        self.model_ = Circuit(joint, [*variables, self.class_name_]).compile(dtype=torch.float64)
        return self

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """log P(class | row), (B, C)."""
        x = self.encode(X)
        with torch.no_grad():
            logs = self.class_model_.log_prob(x).reshape(len(x), -1)
        prior = torch.as_tensor(self.class_prior_).log()
        known = torch.where((logs > -torch.inf).any(1, keepdim=True), logs, 0.0)  # a row that no class could have made
        return torch.log_softmax(known + prior, 1).numpy()

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """P(class | row), (B, C), in the order of `classes_`."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable class of each row, (B,)."""
        check_is_fitted(self)
        best: NDArray[Any] = self.classes_[self.predict_log_proba(X).argmax(1)]
        return best

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """log p(row) over all classes, (B,): the lower, the stranger is a row."""
        x = self.encode(X)
        x = torch.cat([x, torch.full((len(x), 1), torch.nan, dtype=x.dtype)], 1)
        with torch.no_grad():
            return self.model_.log_prob(x).numpy()


def _labels(y: Any) -> NDArray[Any]:
    labels: NDArray[Any] = column_or_1d(y, warn=True)
    numbers = labels.dtype.kind == "f"
    missing = np.isnan(labels) if numbers else np.array([v is None or v != v for v in labels.tolist()], dtype=bool)
    if missing.any():
        raise ValueError(f"Input y contains NaN, in row {int(np.flatnonzero(missing)[0])}: every row needs a label")
    if numbers and np.isinf(labels).any():
        raise ValueError("Input y contains infinity")
    return labels


def _free_name(variables: list[Any]) -> int | str:
    """A name for the class among the columns: "class", or as many underscores more as it takes."""
    name = "class"
    while name in variables:
        name += "_"
    return name
