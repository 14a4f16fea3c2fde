"""The class marginal of a class-conditional prior: a prior itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from pcircuits.arguments import as_generator, whole_number
from vq_sources.errors import ConfigError, DataError, SelectionError
from vq_sources.priors.interface import BLOCK_NUMBERS, AutoregressivePrior, State
from vq_sources.protocols import check_codes

__all__ = ["ClassMarginal"]


@dataclass(frozen=True)
class MarginalState(State):
    """The states of the C conditionals, log p(c, z_<t), and the conditionals' next log-probabilities.

    These are kept because both the next symbol's probabilities and, once it is chosen, the class posterior need them;
    `rows` says which of their rows belongs to each of ours, so that reordering copies none of them.
    """

    conditionals: tuple[State, ...]
    log_joint: Float64[Tensor, "B C"]
    upcoming: Float64[Tensor, "A C K"] | None
    rows: Int64[Tensor, " B"]


class ClassMarginal(AutoregressivePrior):
    """p(z) = Σ_c p(c) p(z | c), at C times the cost of the conditional prior.

    p(z_t | z_<t) = Σ_c p(c | z_<t) p(z_t | z_<t, c), where p(c | z_<t) ∝ p(c) ∏_{i<t} p(z_i | z_<i, c), in log space.
    A state holds B·C·K numbers beside the prefixes.

    **Arguments**

    - `prior`: a class-conditional prior.
    - `class_probs`: p(c), (C,), renormalised in float64; the prior's own (the frequencies of its training labels) where
      None.

        >>> from vq_sources.priors import IndependentPrior
        >>> prior = IndependentPrior((1, 2), 3, num_classes=2)
        >>> codes = torch.tensor([[0, 1], [0, 0], [2, 2]])
        >>> prior.fit_counts(codes, torch.tensor([0, 0, 1]), smoothing=0.0)
        >>> marginal = prior.marginal()
        >>> marginal.log_prob(codes).exp().mul(3).round(decimals=6).tolist()  # 2/3 · 1/2 and 1/3 · 1
        [1.0, 1.0, 1.0]
        >>> marginal.next_log_probs(torch.tensor([[2]])).exp().tolist()  # a 2 is of the second class
        [[0.0, 0.0, 1.0]]
    """

    def __init__(self, prior: AutoregressivePrior, class_probs: Float[Tensor, " C"] | None = None) -> None:
        if prior.num_classes is None:
            raise SelectionError(f"this {type(prior).__name__} has no classes to sum out: use it as it is")
        super().__init__(prior.grid, prior.cardinalities)
        probs = prior.class_probs if class_probs is None else class_probs
        if probs.shape != (prior.num_classes,) or bool((probs < 0).any()) or abs(float(probs.sum()) - 1) > 1e-6:
            raise ConfigError(
                f"class_probs must be ({prior.num_classes},) numbers >= 0 that sum to 1, not {probs.tolist()}"
            )
        self.prior = prior
        probs = probs.detach().to(prior.device, torch.float64)
        self.register_buffer("class_probs", probs / probs.sum())  # float32 sums to 1 to seven digits, codes to sixteen

    @property
    def device(self) -> torch.device:
        return self.prior.device

    @property
    def classes(self) -> int:
        """C, the number of classes that are summed out."""
        return len(self.class_probs)

    def log_joint(self, codes: Int64[Tensor, "N P"]) -> Float64[Tensor, "N C"]:
        """log p(c) + log p(z | c) of each code and class."""
        check_codes(codes, self.cardinalities)
        return self._log_joint(codes)

    def _log_joint(self, codes: Tensor) -> Tensor:
        conditionals = [self.prior.log_prob(codes, c) for c in range(self.classes)]
        return torch.stack(conditionals, 1) + self.class_probs.log()

    def _log_prob(self, codes: Tensor, label: Tensor | None) -> Tensor:
        return self._log_joint(codes).logsumexp(1)

    def _next_log_probs(self, prefix: Tensor, label: Tensor | None) -> Tensor:
        state = self.start(len(prefix))
        for symbols in prefix.T:
            state = self.extend(state, symbols)
        return self.next_from(state)

    def start(self, batch: int, label: int | Tensor | None = None) -> MarginalState:
        self._labels(label, batch)
        conditionals = tuple(self.prior.start(batch, c) for c in range(self.classes))
        log_joint = self.class_probs.log().expand(batch, -1)
        return self._state(conditionals, log_joint)

    def _state(self, conditionals: tuple[State, ...], log_joint: Tensor) -> MarginalState:
        prefix = conditionals[0].prefix
        upcoming = None
        if prefix.shape[1] < self.positions:
            shape = (len(prefix), self.classes, self.cardinalities[prefix.shape[1]])
            upcoming = torch.empty(shape, dtype=torch.float64, device=prefix.device)
            for c, state in enumerate(conditionals):
                upcoming[:, c] = self.prior.next_from(state)
        rows = torch.arange(len(prefix), device=prefix.device)
        return MarginalState(prefix, None, conditionals, log_joint, upcoming, rows)

    def next_from(self, state: State) -> Float64[Tensor, "B K"]:
        assert isinstance(state, MarginalState)
        assert state.upcoming is not None, "a whole code has no next symbol"
        _, classes, symbols = state.upcoming.shape
        rows = max(1, BLOCK_NUMBERS // (classes * symbols))
        parts = []
        for i in range(0, max(1, len(state.rows)), rows):
            joint = state.log_joint[i : i + rows]
            total = joint.logsumexp(1, keepdim=True)
            log_probs = (joint[:, :, None] + state.upcoming[state.rows[i : i + rows]]).logsumexp(1) - total
            parts.append(torch.where(total == -torch.inf, -math.log(symbols), log_probs))
        return torch.cat(parts)

    def extend(self, state: State, symbols: Int64[Tensor, " B"]) -> MarginalState:
        assert isinstance(state, MarginalState)
        assert state.upcoming is not None, "a whole code has no next symbol"
        conditionals = tuple(self.prior.extend(one, symbols) for one in state.conditionals)
        return self._state(conditionals, state.log_joint + state.upcoming[state.rows, :, symbols])

    def reorder(self, state: State, index: Int64[Tensor, " M"]) -> MarginalState:
        assert isinstance(state, MarginalState)
        conditionals = tuple(self.prior.reorder(one, index) for one in state.conditionals)
        prefix = conditionals[0].prefix
        return MarginalState(prefix, None, conditionals, state.log_joint[index], state.upcoming, state.rows[index])

    @torch.no_grad()
    def sample(
        self, n: int, generator: torch.Generator | None = None, label: int | Tensor | None = None
    ) -> Int64[Tensor, "n P"]:
        """n independent codes: a class from p(c), then a code from p(z | c), at the cost of one conditional."""
        n, generator = whole_number(n, "n", 0, DataError), as_generator(generator)
        self._labels(label, n)
        where = "cpu" if generator is None else generator.device
        classes = torch.multinomial(self.class_probs.to(where), max(1, n), replacement=True, generator=generator)[:n]
        return self.prior.sample(n, generator, classes.to(self.device))
