"""Exact fine-tuning: a decoder and the weights of its codes, trained for the likelihood of the mixture they make."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float64
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pcircuits import learning
from pcircuits.arguments import whole_number
from pcircuits.errors import FileFormatError, ParameterError
from pcircuits.files import make_folder, replacing
from pcircuits.learning import FitSettings
from vq_sources.codes import CodeSet
from vq_sources.distil import component_weights, distil
from vq_sources.errors import ConfigError
from vq_sources.protocols import VQDecoder, leaf_groups, likelihood_by_group

__all__ = ["FineTuned", "FineTuningRound", "finetune"]

_ROWS = 256
_STATE = "finetune.safetensors"


@dataclass(frozen=True)
class FineTuningRound:
    """−log p(x) of the mixture before a round, in nats for each row: exact, summed over all N codes.

    `validation` is None where there are no validation data; `covered` is the share of the posterior that the top codes hold.
    """

    number: int
    train: float
    validation: float | None
    covered: float


@dataclass(frozen=True, eq=False)
class FineTuned:
    """What fine-tuning made: `distil(tuned.source, codes, tuned.weights)` is the circuit.

    - `source`: a copy of the model with its trained decoder.
    - `weights`: w_n, (N,), which sum to 1.
    - `rounds`: what the mixture was worth before each round, and after the last.
    """

    source: Any
    weights: Float64[Tensor, " N"]
    rounds: tuple[FineTuningRound, ...]


def finetune(
    source: nn.Module,
    codes: CodeSet,
    data: Float[Tensor, "B D"],
    validation: Float[Tensor, "V D"] | None = None,
    *,
    rounds: int = 5,
    top: int = 16,
    settings: FitSettings | None = None,
    folder: str | Path | None = None,
) -> FineTuned:
    """Train a decoder and the weights of its codes for log p(x) = log Σ_n w_n p(x | z_n), the sum over all N codes exact.

    A round is an E-step and an M-step. The E-step finds, for each row, the posterior r_n ∝ w_n p(x | z_n) over all N codes,
    without gradients, and keeps its `top` largest. The M-step follows the gradient of Σ_b Σ_n r_bn log (w_n p(x_b | z_n))
    over these, with r fixed, for the epochs of `settings`. So only the codes that explain a batch are decoded with gradients.
    With r of all codes, this is a generalised EM algorithm: its gradient, at the start of a round, is that of log p(x).

    With a `folder`, each round ends with a file there, and the same call after a kill goes on from the last one, and within
    it from its last epoch; a call with more rounds goes on for as many as are missing.

    **Arguments**

    - `source`: a VQ model that is a module; it stays as it is, a copy is trained. Its encoder is not used.
    - `codes`: N codes, whose weights start from their prior, renormalised.
    - `data`, `validation`: rows of the distilled circuit's data, such as `vq_sources.metrics.observations` makes.
    - `rounds`: how many rounds.
    - `top`: how many codes of each row take part in the M-step.
    - `settings`: of the M-step; one epoch at a learning rate of 1e-3 unless given.
    - `folder`: where to keep rounds.

    **Raises** `ParameterError` for a source that is no module, `ConfigError` for less than one round or code;
    `FileFormatError` for a folder of another run; else as `distil` and `pcircuits.learning.fit`.

    **Example**

    >>> from vq_sources import VQVAE, IndependentPrior, VQVAEConfig, selection
    >>> images = torch.randint(17, (40, 8, 8), generator=torch.Generator().manual_seed(0))
    >>> model = VQVAE(VQVAEConfig(num_codes=2, hidden=8), torch.Generator().manual_seed(0))
    >>> model.prepare((images,))
    >>> codes = selection.enumerate(IndependentPrior(model.grid, num_codes=2))
    >>> tuned = finetune(model, codes, (images.flatten(1) + 0.5) / 17, rounds=2, top=4)
    >>> len(tuned.rounds), tuned.rounds[-1].train < tuned.rounds[0].train
    (3, True)
    """
    if not isinstance(source, nn.Module) or not isinstance(source, VQDecoder):
        raise ParameterError(f"{type(source).__name__} has no weights to train: a source to fine-tune is an nn.Module")
    rounds = whole_number(rounds, "rounds", 1, ConfigError)
    top = min(whole_number(top, "top", 1, ConfigError), len(codes))
    settings = FitSettings(epochs=1) if settings is None else settings
    tuned = _Tuned(source, codes)
    place = None if folder is None else Path(folder)
    if place is not None:
        make_folder(place)
    done = [] if place is None else _restored(place, tuned)
    for number in range(len(done), rounds):
        index, shares, value = tuned.posterior(data, top)
        checked = None if validation is None else tuned.value(validation)
        found = FineTuningRound(number, value, checked, float(shares.sum(1).mean()))
        of_round = None if place is None else place / f"round-{number:03d}"
        learning.fit(tuned, (data, index, shares), settings=settings, folder=of_round)
        done.append(found)
        if place is not None:
            _keep(place, tuned, done)
    _, shares, value = tuned.posterior(data, top)
    last = FineTuningRound(
        rounds, value, None if validation is None else tuned.value(validation), float(shares.sum(1).mean())
    )
    return FineTuned(tuned.source.train(source.training), tuned.weights(), (*done, last))


class _Tuned(nn.Module):
    """The decoder and the weights of its codes, with the loss of an M-step."""

    def __init__(self, source: nn.Module, codes: CodeSet) -> None:
        super().__init__()
        self.source: Any = copy.deepcopy(source).eval()
        self.codes = codes
        dtype = next((p.dtype for p in source.parameters()), torch.get_default_dtype())
        self.log_weights = nn.Parameter(component_weights(codes, "prior").log().to(dtype))

    def train(self, mode: bool = True) -> _Tuned:
        """The decoder stays in evaluation mode: its likelihood does not depend on it, and a codebook must not move."""
        return super().train(False)

    def weights(self) -> Float64[Tensor, " N"]:
        """w, which sum to 1."""
        return self.log_weights.detach().double().softmax(0).cpu()

    @torch.no_grad()
    def posterior(self, x: Tensor, top: int) -> tuple[Tensor, Tensor, float]:
        """The `top` most probable codes of each row and their shares, (B, k) each, and the mean of −log p(x)."""
        circuit = distil(self.source, self.codes, self.weights(), eager=True)
        model = circuit.compile(dtype=self.log_weights.dtype, device=x.device)
        found = [model.given(part).posterior(circuit.root).topk(top, 1) for part in torch.split(x, _ROWS)]
        value = torch.cat([model.log_prob(part) for part in torch.split(x, _ROWS)])
        shares, index = (torch.cat(parts) for parts in zip(*found, strict=True))
        return index, shares, -float(value.double().mean())

    @torch.no_grad()
    def value(self, x: Tensor) -> float:
        """The mean of −log p(x)."""
        circuit = distil(self.source, self.codes, self.weights(), eager=True)
        model = circuit.compile(dtype=self.log_weights.dtype, device=x.device)
        return -float(torch.cat([model.log_prob(part) for part in torch.split(x, _ROWS)]).double().mean())

    def loss(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, Mapping[str, float]]:
        """−Σ_n r_n log (w_n p(x | z_n)) over the codes (B, k) of a batch, on average."""
        x, index, shares = batch
        used, place = torch.unique(index, return_inverse=True)
        made = likelihood_by_group(self.source, self.codes.codes.to(index.device)[used])
        logs = self.log_weights.log_softmax(0)[index]
        for group, of_group in zip(leaf_groups(self.source), made, strict=True):
            parameters = {name: value[place] for name, value in of_group.items()}  # (B, k, D, *event)
            logs = logs + group.family.log_density(x[:, None, list(group.columns)], parameters).sum(-1)
        return -(shares * logs).sum(1).mean(), {}


def _keep(folder: Path, tuned: _Tuned, rounds: list[FineTuningRound]) -> None:
    """Write the weights and the rounds so far, whole or not at all."""
    state = {name: value.detach().cpu().contiguous().clone() for name, value in tuned.state_dict().items()}
    header = {"rounds": json.dumps([vars(one) for one in rounds])}
    with replacing(folder / _STATE) as file:
        file.write(save(state, metadata=header))


def _restored(folder: Path, tuned: _Tuned) -> list[FineTuningRound]:
    """The rounds that were finished, after their weights were loaded."""
    path = folder / _STATE
    if not path.exists():
        return []
    try:
        with safe_open(path, framework="pt") as file:
            rounds = [FineTuningRound(**one) for one in json.loads(file.metadata()["rounds"])]
            tuned.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except Exception as error:
        raise FileFormatError(
            f"{path} does not hold rounds of this model and these codes ({error}): take another folder"
        ) from error
    return rounds
