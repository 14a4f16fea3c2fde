"""One distilled model in a table of results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["METHODS", "Row", "method_name"]

METHODS = {
    "exact": "exact model",
    "enumerate": "exact model",
    "ancestral": "DMRS",
    "beam": "beam",
    "stochastic_beam": "stochastic beam",
    "paper_beam": "paper's beam",
    "encoded": "encoded",
}
"""How tables and pictures call the ways of choosing codes, in the order in which they appear there."""


@dataclass(frozen=True)
class Row:
    """A distilled model and what it was judged by, on the images that the table is of.

    **Arguments**

    - `method`: how the codes were chosen, a key of `METHODS`.
    - `weights`: "uniform", "prior" or "bound".
    - `asked`, `reached`: how many codes were asked for, and how many there are (N).
    - `continuous_bpd`: bits per dimension of dequantised pixels under the density; None for leaves over integers.
    - `discrete_bpd`: bits per dimension of the integers.
    - `covered_mass`: Σ_n p(z_n), the prior's mass on the codes.
    - `seconds`: to distil the codes into a circuit and to evaluate it; not the choosing.
    """

    method: str
    weights: str
    asked: int
    reached: int
    continuous_bpd: float | None
    discrete_bpd: float
    covered_mass: float
    seconds: float

    @staticmethod
    def named(method: str, weights: str, asked: int) -> str:
        """A name for the files of a row.

        >>> Row.named("beam", "prior", 64)
        'beam-prior-64'
        """
        return f"{method}-{weights}-{asked}"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Row:
        """A row from a report, which may say more about it."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})

    @property
    def name(self) -> str:
        """The name of this row's files."""
        return Row.named(self.method, self.weights, self.asked)


def method_name(method: str) -> str:
    """How a method is called in tables and pictures.

    >>> method_name("ancestral"), method_name("my_own")
    ('DMRS', 'my own')
    """
    return METHODS.get(method, method.replace("_", " "))
