"""Sets of distinct codes with their log-probabilities, and the helpers that number and compare codes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from pcircuits.errors import FileFormatError
from vq_sources.errors import DataError, SelectionError
from vq_sources.protocols import check_codes

__all__ = ["CodeSet", "Provenance", "code_keys", "first_occurrences"]


@dataclass(frozen=True)
class Provenance:
    """Where a set of codes came from.

    **Arguments**

    - `method`: the selection's name.
    - `seed`: the initial seed of the generator; None where nothing was drawn, or without a generator.
    - `asked`, `reached`: how many codes were asked for, and how many there are.
    - `prior`: the digest of the prior's parameters and settings (`AutoregressivePrior.identity`).
    - `details`: what else the method has to say (numbers of draws, widths), by name.
    """

    method: str
    seed: int | None
    asked: int
    reached: int
    prior: str
    details: Mapping[str, int | float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class CodeSet:
    """Distinct codes with their log-probabilities under one prior.

    Any row of `codes` is a grid in raster order (the last position fastest).

    **Arguments**

    - `codes`: (N, P) int64, distinct rows, P = H·W.
    - `log_weights`: (N,) log p(z), under the class marginal where the prior has classes.
    - `grid`, `cardinalities`: (H, W), and the number of symbols at each of the P positions.
    - `provenance`: method, seed, how many were asked and reached, the prior's identity.
    - `log_joint`: (N, C) log p(c) + log p(z | c); None without classes.
    - `perturbed`: (N,) decreasing perturbed log-probabilities, of a stochastic beam only.
    - `kappa`: the largest perturbed log-probability that was left out (-inf: none was), of a stochastic beam only.

    **Raises** `DataError` for shapes that do not fit, symbols out of range, repeated rows, NaN or positive weights.

        >>> codes, log_weights = torch.tensor([[0, 1], [1, 1]]), torch.tensor([0.5, 0.25]).double().log()
        >>> two = CodeSet(codes, log_weights, (1, 2), (2, 2), Provenance("by hand", None, 2, 2, ""))
        >>> len(two), round(two.covered_mass, 2), two.prefix(1).codes.tolist()
        (2, 0.75, [[0, 1]])
    """

    codes: Int64[Tensor, "N P"]
    log_weights: Float64[Tensor, " N"]
    grid: tuple[int, int]
    cardinalities: tuple[int, ...]
    provenance: Provenance
    log_joint: Float64[Tensor, "N C"] | None = None
    perturbed: Float64[Tensor, " N"] | None = None
    kappa: float | None = None

    def __post_init__(self) -> None:
        height, width = self.grid
        if height * width != len(self.cardinalities):
            raise DataError(f"a grid {height} by {width} does not hold {len(self.cardinalities)} cardinalities")
        check_codes(self.codes, self.cardinalities)
        if self.codes.dtype != torch.int64:
            raise DataError(f"the codes of a set are int64, not {self.codes.dtype}: use codes.long()")
        if len(self.codes) == 0:
            raise SelectionError("a set of codes needs at least one code")
        self._check_distinct()
        self._check_weights()

    def _check_distinct(self) -> None:
        repeated = torch.ones(len(self.codes), dtype=torch.bool, device=self.codes.device)
        repeated[first_occurrences(code_keys(self.codes, self.cardinalities))] = False
        if bool(repeated.any()):
            row = int(repeated.nonzero()[0])
            raise DataError(
                f"the codes of a set are distinct, but row {row}, {self.codes[row].tolist()}, is there before: "
                "keep first_occurrences(code_keys(codes, cardinalities))"
            )

    def _check_weights(self) -> None:
        n = len(self.codes)
        for name, values in (("log_weights", self.log_weights), ("perturbed", self.perturbed)):
            if values is not None and values.shape != (n,):
                raise DataError(f"{name} must be ({n},), one for each code, not {tuple(values.shape)}")
        slack = 1e-6 * (1 + abs(math.log(max(self.cardinalities)))) * len(self.cardinalities)
        bad = ~(self.log_weights <= slack)
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            raise DataError(f"log_weights[{row}] is {float(self.log_weights[row])}: a log-probability is <= 0")
        if self.log_joint is not None and (self.log_joint.ndim != 2 or len(self.log_joint) != n):
            raise DataError(f"log_joint must be ({n}, C), not {tuple(self.log_joint.shape)}")

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def covered_mass(self) -> float:
        """Σ_n p(z_n): the prior's mass on the set, in [0, 1]."""
        return float(self.log_weights.logsumexp(0).exp())

    def prefix(self, n: int) -> CodeSet:
        """The first n codes; prefixes are nested.

        The first n codes of a stochastic beam, and of ancestral sampling, are themselves a sample without replacement
        of size n; `kappa` becomes the threshold of that sample. Of `beam` and `enumerate` they are the n best.

        **Raises** `SelectionError` where the set has fewer than n codes.
        """
        if not 1 <= n <= len(self):
            raise SelectionError(
                f"a prefix of {n} codes was asked of a set of {len(self)} codes: ask for 1 to {len(self)}"
            )
        kappa = self.kappa if self.perturbed is None or n == len(self) else float(self.perturbed[n])
        first = self._rows(torch.arange(n, device=self.codes.device), n)
        return replace(first, perturbed=None if self.perturbed is None else self.perturbed[:n], kappa=kappa)

    def subset(self, index: Int64[Tensor, " M"] | Bool[Tensor, " N"]) -> CodeSet:
        """The codes at `index`, in that order (integers, or a mask); no longer a sample with a threshold."""
        rows = index.nonzero()[:, 0] if index.dtype == torch.bool else index
        return self._rows(rows.to(self.codes.device), len(rows))

    def _rows(self, rows: Tensor, asked: int) -> CodeSet:
        return replace(
            self,
            codes=self.codes[rows],
            log_weights=self.log_weights[rows],
            log_joint=None if self.log_joint is None else self.log_joint[rows],
            provenance=replace(self.provenance, asked=asked, reached=len(rows)),
            perturbed=None,
            kappa=None,
        )

    def to(self, device: torch.device | str) -> CodeSet:
        """The same set on another device."""
        names = ("codes", "log_weights", "log_joint", "perturbed")
        moved = {name: getattr(self, name).to(device) for name in names if getattr(self, name) is not None}
        return replace(self, **moved)

    def to_tensors(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Tensors and text metadata, as a safetensors file takes them; `from_tensors` brings the set back."""
        names = ("codes", "log_weights", "log_joint", "perturbed")
        tensors = {name: getattr(self, name).contiguous() for name in names if getattr(self, name) is not None}
        about = {
            "grid": self.grid,
            "cardinalities": self.cardinalities,
            "provenance": {**asdict(self.provenance), "details": dict(self.provenance.details)},
            # JSON has no infinities; Python's float reads them back from text.
            "kappa": None if self.kappa is None else repr(self.kappa),
        }
        return tensors, {"code_set": json.dumps(about)}

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> CodeSet:
        """The set that `to_tensors` took apart.

        **Raises** `FileFormatError` where a part is missing or cannot be read.
        """
        try:
            about = json.loads(metadata["code_set"])
            return CodeSet(
                codes=tensors["codes"],
                log_weights=tensors["log_weights"],
                grid=(int(about["grid"][0]), int(about["grid"][1])),
                cardinalities=tuple(int(k) for k in about["cardinalities"]),
                provenance=Provenance(**about["provenance"]),
                log_joint=tensors.get("log_joint"),
                perturbed=tensors.get("perturbed"),
                kappa=None if about["kappa"] is None else float(about["kappa"]),
            )
        except (KeyError, IndexError, TypeError, json.JSONDecodeError) as error:
            raise FileFormatError(f"this is not a stored set of codes: {error!r} is missing or unreadable") from error


def code_keys(codes: Int64[Tensor, "N P"], cardinalities: Sequence[int]) -> Int64[Tensor, " N"]:
    """One integer for each row, equal exactly where rows are equal; the raster number of the code where that fits.

    >>> code_keys(torch.tensor([[0, 2], [1, 0]]), (2, 3)).tolist()
    [2, 3]
    """
    if math.prod(cardinalities) > 2**62:
        _, inverse = torch.unique(codes, dim=0, return_inverse=True)
        return torch.as_tensor(inverse)
    keys = torch.zeros(len(codes), dtype=torch.int64, device=codes.device)
    for position, cardinality in enumerate(cardinalities):
        keys = keys * cardinality + codes[:, position]
    return keys


def first_occurrences(keys: Int64[Tensor, " N"]) -> Int64[Tensor, " M"]:
    """The index of each distinct key's first occurrence, increasing.

    >>> first_occurrences(torch.tensor([5, 7, 5, 1])).tolist()
    [0, 1, 3]
    """
    distinct, inverse = torch.unique(keys, return_inverse=True)
    index = torch.arange(len(keys), device=keys.device)
    first = torch.full((len(distinct),), len(keys), device=keys.device)
    earliest: Tensor = first.scatter_reduce(0, inverse, index, "amin").sort().values
    return earliest
