"""The gated PixelCNN: a class-conditional autoregressive network over a grid of codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pcircuits.arguments import whole_number
from vq_sources.errors import ConfigError
from vq_sources.plain_numbers import pair, real_number
from vq_sources.priors.interface import BLOCK_NUMBERS, AutoregressivePrior

__all__ = ["PixelCNN", "PixelCNNConfig"]

ABOVE = tuple((down, right) for down in (-1, 0) for right in (-1, 0, 1))
"""What a vertical convolution sees, in a stack that starts one row late."""
LEFT = ((0, -1), (0, 0))
"""What a horizontal convolution sees, in a stack that starts one column late."""


@dataclass(frozen=True)
class PixelCNNConfig:
    """What a `PixelCNN` is built from.

    **Arguments**

    - `grid`: (H, W).
    - `num_codes`: K for all positions, or one for each.
    - `num_classes`: C, or None for a prior without classes.
    - `hidden`: channels of each stack.
    - `layers`: gated layers; None takes three, or as many as the receptive field needs: max(W - 1, H - 2).
    - `dropout`: the share of gated channels dropped by `loss` in training mode.
    """

    grid: tuple[int, int]
    num_codes: int | tuple[int, ...]
    num_classes: int | None = None
    hidden: int = 64
    layers: int | None = None
    dropout: float = 0.1

    def __post_init__(self) -> None:
        changed: dict[str, object] = {
            "grid": pair(self.grid, "grid"),
            "hidden": whole_number(self.hidden, "hidden", 1, ConfigError),
            "layers": None if self.layers is None else whole_number(self.layers, "layers", 1, ConfigError),
            "dropout": real_number(self.dropout, "dropout"),
        }
        if isinstance(self.num_codes, Sequence) and not isinstance(self.num_codes, str):
            changed["num_codes"] = tuple(whole_number(number, "num_codes", 1, ConfigError) for number in self.num_codes)
        else:
            changed["num_codes"] = whole_number(self.num_codes, "num_codes", 1, ConfigError)
        for name, value in changed.items():
            object.__setattr__(self, name, value)

    @property
    def layers_needed(self) -> int:
        """The fewest layers with which every position sees its whole past."""
        height, width = self.grid
        return max(1, width - 1, height - 2)


class PixelCNN(AutoregressivePrior):
    """p(z | c) = ∏_i p(z_i | z_<i, c), by a gated convolutional network with a vertical and a horizontal stack.

    Layer l, with A a 2×3 convolution over the rows above, C a 1×2 one to the left, and gate(a, b) = tanh(a) σ(b):

        u = A v_l + a_c,      v_{l+1} = gate(u),      h_{l+1} = h_l + D gate(C h_l + E u + b_c).

    The vertical stack starts one row late and the horizontal one column late, so no convolution needs a mask and there
    is no blind spot; the default depth lets every position see the whole past. A learned position is added to both, for
    on a tiny grid convolutions hardly know where they are.
    van den Oord et al. (2016), "Conditional Image Generation with PixelCNN Decoders", arXiv 1606.05328, equation (4).

    **Arguments** are those of `PixelCNNConfig`, and

    - `generator`: where the initial weights come from; None takes torch's global generator, as modules do.

    **Raises** `ConfigError` for a depth below the one that the receptive field needs, and for sizes out of range.

        >>> prior = PixelCNN((2, 3), 4, num_classes=10, hidden=8)
        >>> prior.log_prob(torch.zeros(5, 6, dtype=torch.int64), label=3).shape
        torch.Size([5])
        >>> round(prior.next_log_probs(torch.tensor([[1, 2]]), label=3).exp().sum().item(), 9)
        1.0
    """

    def __init__(
        self,
        grid: tuple[int, int],
        num_codes: int | Sequence[int],
        *,
        num_classes: int | None = None,
        hidden: int = 64,
        layers: int | None = None,
        dropout: float = 0.1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(grid, num_codes, num_classes)
        codes = tuple(num_codes) if isinstance(num_codes, Sequence) else num_codes
        self.config = PixelCNNConfig(self.grid, codes, self.num_classes, hidden, layers, dropout)
        hidden, layers, dropout = self.config.hidden, self.config.layers, self.config.dropout
        _check(self.config)
        depth = max(3, self.config.layers_needed) if layers is None else layers
        self.embedding = _table((max(self.cardinalities), hidden), generator, 1.0)
        self.position = _table((*self.grid, hidden), generator, 0.1)
        self.stack = nn.ModuleList(_GatedLayer(hidden, num_classes, dropout, generator) for _ in range(depth))
        self.mix = _linear(hidden, hidden, generator)
        self.head = _linear(hidden, max(self.cardinalities), generator)

    @classmethod
    def from_config(cls, config: PixelCNNConfig, generator: torch.Generator | None = None) -> PixelCNN:
        """The untrained prior of a configuration."""
        return cls(
            config.grid,
            config.num_codes,
            num_classes=config.num_classes,
            hidden=config.hidden,
            layers=config.layers,
            dropout=config.dropout,
            generator=generator,
        )

    @property
    def device(self) -> torch.device:
        return self.embedding.device

    @property
    def rows_per_block(self) -> int:
        hidden = self.config.hidden
        return max(1, BLOCK_NUMBERS // (self.positions * (12 * hidden + max(self.cardinalities))))

    def settings(self) -> dict[str, object]:
        return {**super().settings(), **asdict(self.config)}

    def embed(self, codes: Tensor) -> Float[Tensor, "B H W hidden"]:
        """The embedded grid of whole rows of codes (B, rows · W)."""
        grid: Tensor = self.embedding[codes.reshape(len(codes), codes.shape[1] // self.grid[1], self.grid[1])]
        return grid

    def logits(
        self, embedded: Float[Tensor, "B H W hidden"], label: Tensor | None, dropout: bool = False
    ) -> Float[Tensor, "B P K"]:
        """Unnormalised log-probabilities of all positions, with dropout or without."""
        vertical = _shift(embedded, rows=1) + self.position
        horizontal = _shift(embedded, columns=1) + self.position
        return self._top(self._features(vertical, horizontal, label, dropout)).flatten(1, 2)

    def _features(self, vertical: Tensor, horizontal: Tensor, label: Tensor | None, dropout: bool) -> Tensor:
        rows = horizontal.shape[1]
        for depth, layer in enumerate(self.stack):
            # Each layer above reaches one row further up; what lies higher is not looked at again.
            vertical = vertical[:, -(rows + len(self.stack) - depth) :]
            vertical, horizontal = layer(vertical, horizontal, label, dropout)
        return horizontal

    def _top(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(F.relu(self.mix(F.relu(features))))
        return logits

    def _score(self, codes: Tensor, label: Tensor | None, dropout: bool) -> Tensor:
        logits = self.logits(self.embed(codes), label, dropout).double()
        cardinalities = torch.tensor(self.cardinalities, device=logits.device)
        beyond = torch.arange(logits.shape[-1], device=logits.device) >= cardinalities[:, None]
        log_probs = logits.masked_fill(beyond, -torch.inf).log_softmax(-1)
        return log_probs.gather(2, codes[:, :, None])[:, :, 0].sum(1)

    def _log_prob(self, codes: Tensor, label: Tensor | None) -> Tensor:
        return self._score(codes, label, dropout=False)

    def _training_log_prob(self, codes: Tensor, label: Tensor | None) -> Tensor:
        return self._score(codes, label, dropout=self.training)

    def _next_log_probs(self, prefix: Tensor, label: Tensor | None) -> Tensor:
        position = prefix.shape[1]
        row, column = divmod(position, self.grid[1])
        unwritten = (row + 1) * self.grid[1] - position
        embedded = self.embed(F.pad(prefix, (0, unwritten)))  # (B, row + 1, W, hidden)
        vertical = _shift(embedded, rows=1) + self.position[: row + 1]
        horizontal = _shift(embedded[:, row:], columns=1) + self.position[row]
        features = self._features(vertical, horizontal[:, :, : column + 1], label, False)[:, 0, column]
        return self._top(features)[:, : self.cardinalities[position]].double().log_softmax(-1)


class _GatedLayer(nn.Module):
    def __init__(self, hidden: int, num_classes: int | None, dropout: float, generator: torch.Generator | None) -> None:
        super().__init__()
        self.above = _linear(len(ABOVE) * hidden, 2 * hidden, generator)
        self.left = _linear(len(LEFT) * hidden, 2 * hidden, generator)
        self.across = _linear(2 * hidden, 2 * hidden, generator)
        self.out = _linear(hidden, hidden, generator)
        self.dropout = dropout
        self.by_class = None if num_classes is None else _table((2, num_classes, 2 * hidden), generator, 0.1)

    def forward(
        self, vertical: Tensor, horizontal: Tensor, label: Tensor | None, dropout: bool
    ) -> tuple[Tensor, Tensor]:
        """(B, R, W, hidden) and (B, R', W', hidden), the horizontal stack on the last R' rows and first W' columns."""
        _, rows, columns, _ = horizontal.shape
        seen_above = self.above(_neighbours(vertical, ABOVE))
        seen_left = self.left(_neighbours(horizontal, LEFT))
        if self.by_class is not None and label is not None:
            seen_above = seen_above + self.by_class[0][label][:, None, None]
            seen_left = seen_left + self.by_class[1][label][:, None, None]
        gated = _gate(seen_left + self.across(seen_above[:, -rows:, :columns]))
        return _gate(seen_above), horizontal + self.out(F.dropout(gated, self.dropout, training=dropout))


def _neighbours(x: Tensor, offsets: Sequence[tuple[int, int]]) -> Tensor:
    """(B, R, W, d) to (B, R, W, len(offsets) · d): each position's neighbours, zero outside the grid."""
    _, rows, columns, _ = x.shape
    padded = F.pad(x, (0, 0, 1, 1, 1, 0))
    return torch.cat([padded[:, 1 + i : 1 + i + rows, 1 + j : 1 + j + columns] for i, j in offsets], -1)


def _shift(x: Tensor, rows: int = 0, columns: int = 0) -> Tensor:
    """(B, R, W, d) moved down and right, zeros moving in."""
    _, height, width, _ = x.shape
    return F.pad(x, (0, 0, columns, 0, rows, 0))[:, :height, :width]


def _gate(x: Tensor) -> Tensor:
    signal, control = x.chunk(2, -1)
    return signal.tanh() * control.sigmoid()


def _linear(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    """A linear map whose weights have variance 1 / inputs, drawn from the generator alone."""
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    nn.init.normal_(layer.weight, std=inputs**-0.5, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def _table(shape: Sequence[int], generator: torch.Generator | None, scale: float) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, generator=generator) * scale)


def _check(config: PixelCNNConfig) -> None:
    height, width = config.grid
    if config.layers is not None and config.layers < config.layers_needed:
        raise ConfigError(
            f"layers is {config.layers}, but on a grid {height} by {width} the last position sees its whole past only "
            f"from {config.layers_needed} layers on: give at least that many, or None"
        )
    if not 0 <= config.dropout < 1:
        raise ConfigError(f"dropout is {config.dropout}: a share in [0, 1) is dropped")
