"""What a prior over codes must answer for every selection and distillation to run on it."""

from __future__ import annotations

import hashlib
import json
import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from pcircuits.arguments import whole_number
from vq_sources.errors import ConfigError, DataError, SelectionError
from vq_sources.plain_numbers import pair
from vq_sources.priors.gumbel import gumbel
from vq_sources.protocols import check_codes, check_labels

__all__ = ["AutoregressivePrior", "State"]

BLOCK_NUMBERS = 2**22
"""How many numbers one block of rows may hold at a time: 32 MB in float64."""


@dataclass(frozen=True)
class State:
    """How far B codes have been written: their prefixes (B, t), and the labels (B,) they are conditioned on."""

    prefix: Int64[Tensor, "B t"]
    label: Int64[Tensor, " B"] | None


class AutoregressivePrior(nn.Module, ABC):
    """A distribution over grids of codes, one symbol after another in raster order.

    log p(z | c) = Σ_i log p(z_i | z_<i, c).

    Log-probabilities are float64 whatever the parameters' dtype, because they are summed over millions of codes, and
    they never depend on the module's mode: dropout acts in `loss` alone. A `label` is None, one int for all rows, or
    one for each row. After a prefix of probability zero, the next symbol has
    some distribution, such as the uniform one.

    Members write `_log_prob` and `_next_log_probs`, and may override the state's four methods where a state can save
    work.

    **Arguments**

    - `grid`: (H, W); P = H·W positions.
    - `num_codes`: K for all positions, or one for each.
    - `num_classes`: C where the prior is conditional on a class; None where it is not.
    """

    class_probs: Float64[Tensor, " C"]
    """p(c) of a conditional prior: uniform until `prepare` has seen the training labels."""

    def __init__(self, grid: tuple[int, int], num_codes: int | Sequence[int], num_classes: int | None = None) -> None:
        super().__init__()
        height, width = pair(grid, "a grid needs at least one position: grid")
        listed = isinstance(num_codes, Sequence) and not isinstance(num_codes, str)
        given = tuple(num_codes) if isinstance(num_codes, Sequence) and listed else (num_codes,) * (height * width)
        if len(given) != height * width:
            raise ConfigError(
                f"num_codes is {num_codes}: a grid {height} by {width} needs one number >= 1, "
                f"or {height * width} of them"
            )
        each = tuple(whole_number(number, "num_codes", 1, ConfigError) for number in given)
        if num_classes is not None:
            num_classes = whole_number(num_classes, "num_classes", 1, ConfigError)
        self.grid = (height, width)
        self.cardinalities: tuple[int, ...] = each
        self.num_classes = num_classes
        if num_classes is not None:
            self.register_buffer("class_probs", torch.full((num_classes,), 1 / num_classes, dtype=torch.float64))

    @abstractmethod
    def _log_prob(self, codes: Tensor, label: Tensor | None) -> Tensor:
        """log p(codes | label), (B,) float64, differentiable in the parameters; the arguments are known to be good."""

    @abstractmethod
    def _next_log_probs(self, prefix: Tensor, label: Tensor | None) -> Tensor:
        """log p(z_t | prefix, label), (B, K_t) float64, of one position; the arguments are known to be good."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the parameters are, and where results are made."""

    @property
    def positions(self) -> int:
        """P = H·W."""
        return len(self.cardinalities)

    @property
    def rows_per_block(self) -> int:
        """How many rows are evaluated at a time; the answer does not depend on it beyond rounding."""
        return max(1, BLOCK_NUMBERS // (self.positions * max(self.cardinalities)))

    @property
    def log_num_codes(self) -> float:
        """log ∏ K_i: how many codes there are."""
        return sum(math.log(k) for k in self.cardinalities)

    def log_prob(
        self, codes: Int64[Tensor, "N P"], label: int | Int64[Tensor, " N"] | None = None
    ) -> Float64[Tensor, " N"]:
        """log p(z | c) of each row, in blocks of bounded memory.

        **Raises** `DataError` for codes or labels that do not fit, `SelectionError` for labels that are missing.
        """
        check_codes(codes, self.cardinalities)
        labels = self._labels(label, len(codes))
        rows = self.rows_per_block
        parts = [
            self._log_prob(codes[i : i + rows].to(self.device), None if labels is None else labels[i : i + rows])
            for i in range(0, max(1, len(codes)), rows)
        ]
        return torch.cat(parts)

    def next_log_probs(
        self, prefix: Int64[Tensor, "B t"], label: int | Int64[Tensor, " B"] | None = None
    ) -> Float64[Tensor, "B K"]:
        """log p(z_t | z_<t, c) of every symbol of the one position that follows a prefix of length t.

        **Raises** `DataError` for a prefix that is complete or out of range, and as `log_prob` for labels.
        """
        self._check_prefix(prefix)
        state = State(prefix.to(self.device), self._labels(label, len(prefix)))
        return AutoregressivePrior.next_from(self, state)

    def start(self, batch: int, label: int | Int64[Tensor, " B"] | None = None) -> State:
        """The state of `batch` codes of which nothing is written."""
        empty = torch.empty((batch, 0), dtype=torch.int64, device=self.device)
        return State(empty, self._labels(label, batch))

    def next_from(self, state: State) -> Float64[Tensor, "B K"]:
        """log p(z_t | z_<t, c) of every next symbol, from a state; (B, K_t)."""
        rows = self.rows_per_block
        prefix, label = state.prefix, state.label
        parts = [
            self._next_log_probs(prefix[i : i + rows], None if label is None else label[i : i + rows])
            for i in range(0, max(1, len(prefix)), rows)
        ]
        return torch.cat(parts)

    def extend(self, state: State, symbols: Int64[Tensor, " B"]) -> State:
        """The state after one more symbol in each row; the old state stays good."""
        return replace(state, prefix=torch.cat([state.prefix, symbols[:, None]], 1))

    def reorder(self, state: State, index: Int64[Tensor, " M"]) -> State:
        """The state whose row m is row index[m] of the old one: rows may be dropped and repeated."""
        return replace(state, prefix=state.prefix[index], label=None if state.label is None else state.label[index])

    @torch.no_grad()
    def sample(
        self, n: int, generator: torch.Generator | None = None, label: int | Int64[Tensor, " n"] | None = None
    ) -> Int64[Tensor, "n P"]:
        """n independent codes z ~ p(z | c), symbol by symbol, (n, P)."""
        n = whole_number(n, "n", 0, DataError)
        state = self.start(n, label)
        for _ in self.cardinalities:
            log_probs = self.next_from(state)
            noise = gumbel(log_probs.shape, generator, log_probs.device)
            state = self.extend(state, (log_probs + noise).argmax(1))
        return state.prefix

    def loss(self, batch: tuple[Tensor, ...]) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The mean negative log-likelihood of a batch of codes (B, P) and labels (B,), in nats for each code grid.

        **Raises** `SelectionError` for codes without labels where there are classes; `DataError` for codes and labels that
        do not fit.
        """
        codes, labels = self._of_training(batch)
        check_codes(codes, self.cardinalities)
        label = self._labels(labels, len(codes))
        nll = -self._training_log_prob(codes.to(self.device), label).mean()
        return nll, {"nll": nll.detach(), "bits_per_symbol": nll.detach() / (self.positions * math.log(2))}

    def _training_log_prob(self, codes: Tensor, label: Tensor | None) -> Tensor:
        """`_log_prob` as the loss sees it: members add here what is for training only."""
        return self._log_prob(codes, label)

    def prepare(self, batch: tuple[Tensor, ...]) -> None:
        """Take from the whole training split (codes (N, P), labels (N,)) what needs no gradient: here p(c)."""
        if self.num_classes is None:
            return
        codes, given = self._of_training(batch)
        labels = self._labels(given, len(codes))
        assert labels is not None
        counts = torch.bincount(labels, minlength=self.num_classes).to(torch.float64)
        self.class_probs.copy_(counts / counts.sum())

    def _of_training(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
        """The codes of a batch, and its labels where it has some and this prior has classes."""
        return batch[0], None if self.num_classes is None or len(batch) == 1 else batch[1]

    def marginal(self) -> AutoregressivePrior:
        """p(z) = Σ_c p(c) p(z | c) as a prior without classes; a prior that has none is its own."""
        if self.num_classes is None:
            return self
        from vq_sources.priors.class_marginal import ClassMarginal  # it is a prior itself, and builds on this module

        return ClassMarginal(self)

    def settings(self) -> dict[str, object]:
        """What the prior was built from, beside its parameters, as JSON takes it."""
        return {"grid": self.grid, "cardinalities": self.cardinalities, "num_classes": self.num_classes}

    @property
    def identity(self) -> str:
        """A digest of the kind of prior, its settings and its parameters: 16 hexadecimal digits."""
        digest = hashlib.sha256(f"{type(self).__name__} {json.dumps(self.settings(), sort_keys=True)}".encode())
        for name, value in sorted(self.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def _check_prefix(self, prefix: Tensor) -> None:
        length = prefix.shape[1] if prefix.ndim == 2 else -1
        if not 0 <= length < self.positions:
            raise DataError(
                f"a prefix is (B, t) with t from 0 to {self.positions - 1}, short of a whole code by one position or "
                f"more, not {tuple(prefix.shape)}"
            )
        if length > 0:
            check_codes(prefix, self.cardinalities[:length])

    def _labels(self, label: int | Tensor | None, batch: int) -> Tensor | None:
        """Labels (batch,) on the prior's device, or None for a prior without classes."""
        name = type(self).__name__
        if self.num_classes is None:
            if label is not None:
                raise SelectionError(f"this {name} has no classes, but was given a label: leave it out")
            return None
        if label is None:
            raise SelectionError(
                f"this {name} is conditional on {self.num_classes} classes, but was asked without labels: "
                "pass label=..., or ask prior.marginal(), which sums the classes out"
            )
        if not isinstance(label, Tensor):
            try:
                label = torch.full((batch,), operator.index(label))
            except TypeError as error:
                raise DataError(
                    f"a label is an integer, or a tensor of {batch} of them, not {type(label).__name__}: "
                    "torch.as_tensor(...) makes a tensor"
                ) from error
        check_labels(label, batch, self.num_classes)
        return label.to(self.device, torch.int64)
