"""Weights and leaves that networks make: the units of a region are points of a latent space, and nets are functions of it.

A layered circuit whose weights and leaves come from these is a probabilistic integral circuit, evaluated by quadrature:
Gala, de Campos, Vergari and Quaeghebeur (2024), *Scaling Continuous Latent Variable Models as Probabilistic Integral
Circuits*. A sum over K units is then the integral over a latent variable at K points, and neighbouring units have much in
common. The circuit is the same after training: `pcircuits.materialise` leaves nothing of the networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from pcircuits.arguments import as_generator
from pcircuits.circuit.leaves import inputs
from pcircuits.circuit.units import Units
from pcircuits.errors import ParameterError
from pcircuits.families.draws import standard_normal
from pcircuits.families.fields import integer
from pcircuits.families.interface import AbstractFamily
from pcircuits.io.types import family_entry, family_of
from pcircuits.parameters import Sourced
from pcircuits.scope import Variable
from pcircuits.structures.leaves import Leaves, random_leaves

__all__ = ["FourierNetwork", "NetworkParameters", "NetworkSimplices", "NetworkWeights", "network_leaves"]

DRAWS = 256
"""How many draws of a family's initial parameters say how far these are apart."""


def midpoints(count: int, like: Tensor) -> Tensor:
    """The middles of K intervals of equal length that [-1, 1] is cut into: the latent coordinates of K units, (K,)."""
    return (2 * torch.arange(count, dtype=like.dtype, device=like.device) + 1) / count - 1


class FourierNetwork(nn.Module):
    """Random Fourier features of a few coordinates, dense layers, and a linear head for each of many functions.

    f_h(z) = a_h · φ(z) + b_h, where φ begins with sin(2π B z) and cos(2π B z), B drawn from N(0, 1/4) and kept, goes
    through dense layers with tanh, and is shared by all heads. So heads are functions of one kind, and cost little.

    **Arguments**

    - `coordinates`: the length of z.
    - `heads`: H, the number of functions.
    - `hidden`: the width of the layers, and the number of features.
    - `layers`: how many dense layers there are, at least 1.
    - `generator`: what the first weights are drawn from; over z in [-1, 1] each head begins with values of about N(0, 1).

    Tancik et al. (2020), *Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains*.

    >>> network = FourierNetwork(2, heads=5, hidden=8, generator=torch.Generator().manual_seed(0))
    >>> network(torch.zeros(3, 4, 2, dtype=torch.float64)).shape
    torch.Size([3, 4, 5])
    """

    frequencies: Tensor

    def __init__(
        self, coordinates: int, heads: int, hidden: int = 64, layers: int = 1, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        hidden, layers = 2 * (integer(hidden, "hidden", least=2) // 2), integer(layers, "layers", least=1)
        draws = as_generator(generator)

        def normal(*shape: int) -> Tensor:
            return standard_normal(shape, torch.empty(0), draws)

        self.register_buffer("frequencies", normal(hidden // 2, coordinates) / 2)
        scale = math.sqrt(2 / hidden)  # features are sines, whose squares are 1/2 on average
        self.weights = nn.ParameterList([normal(hidden, hidden) * scale for _ in range(layers)])
        self.shifts = nn.ParameterList([0.1 * normal(hidden) for _ in range(layers)])
        with torch.no_grad():
            z = 2 * torch.rand(DRAWS, coordinates, generator=draws, dtype=torch.float64) - 1
            typical = self.features(z).square().mean().sqrt()
        self.head = nn.Parameter(normal(heads, hidden) / (typical * math.sqrt(hidden)))
        self.bias = nn.Parameter(torch.zeros(heads, dtype=torch.float64))

    def features(self, z: Tensor) -> Tensor:
        """φ(z), (..., hidden), for z (..., coordinates)."""
        turns = 2 * math.pi * (z @ self.frequencies.t())
        made = torch.cat([turns.sin(), turns.cos()], -1)
        for weights, shift in zip(self.weights, self.shifts, strict=True):
            made = torch.tanh(made @ weights.t() + shift)
        return made

    def forward(self, z: Tensor) -> Tensor:
        """f_h(z), (..., H), for z (..., coordinates)."""
        made = torch.addmm(self.bias, self.features(z).flatten(0, -2), self.head.t())
        return made.view(*z.shape[:-1], len(self.bias))


class NetworkWeights(nn.Module):
    """A source of the weights (R, O, A) of sums: softmax over a of f_r(z_o, z_a), at points of [-1, 1]².

    Each region has a function of its own, and all of these share one network but for its heads.

    >>> source = NetworkWeights(3, 4, 5, hidden=8, generator=torch.Generator().manual_seed(0))
    >>> source.parameters_for(torch.tensor([0, 2]))["log_weights"].shape
    torch.Size([3, 2, 5])
    """

    def __init__(
        self,
        regions: int,
        width: int,
        arity: int,
        hidden: int = 64,
        layers: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.config = {"regions": regions, "width": width, "arity": arity, "hidden": hidden, "layers": layers}
        self.network = FourierNetwork(2, regions, hidden, layers, generator)

    def parameters_for(self, columns: Int64[Tensor, "n"]) -> dict[str, Tensor]:
        """The logarithms, (R, n, A), of weights that are not normalised."""
        like = self.network.bias
        above, below = (midpoints(self.config[name], like) for name in ("width", "arity"))
        points = torch.stack(torch.meshgrid(above[columns], below, indexing="ij"), -1)
        return {"log_weights": self.network(points).movedim(-1, 0)}

    def to_config(self) -> dict[str, Any]:
        """The sizes."""
        return self.config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """A source of these sizes."""
        return cls(**config)


class NetworkSimplices:
    """Makes the weights of sums, each array's by a network of its own: for the argument `weights` of `layered`.

    **Arguments**

    - `generator`: what the networks begin with is drawn from.
    - `hidden`, `layers`: the size of the networks; see `FourierNetwork`.

    >>> from pcircuits.structures import categorical_leaves, layered, quad_graph
    >>> g = torch.Generator().manual_seed(0)
    >>> circuit = layered(quad_graph(2, 2), categorical_leaves(2), 8, weights=NetworkSimplices(g), generator=g)
    >>> circuit.summary().sourced_parameters  # 8 · 8 for each part of 6 partitions, 2 · 8 to mix them, 8 for the root
    792
    """

    def __init__(self, generator: torch.Generator | None, hidden: int = 64, layers: int = 1) -> None:
        self._generator, self._hidden, self._layers = as_generator(generator), hidden, layers

    def __call__(self, *shape: int) -> Sourced:
        """Weights of a shape, (R, O, A), or (O, A) that regions share."""
        regions, width, arity = shape if len(shape) == 3 else (1, *shape)
        return Sourced(
            NetworkWeights(regions, width, arity, self._hidden, self._layers, self._generator), regions, width
        )


class NetworkParameters(nn.Module):
    """A source of the parameters of input units (R, K): functions f_r(z_k) for each region and number, at points of [-1, 1].

    Each number goes through its constraint, such as an exponential for scales and a softmax for probabilities. The
    functions begin about values of the family's `initial`, as far apart as independent draws of it.
    """

    def __init__(
        self,
        family: AbstractFamily,
        regions: int,
        width: int,
        hidden: int = 64,
        layers: int = 1,
        generator: torch.Generator | None = None,
        options: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.regions, self.width = regions, width
        self.config = {"regions": regions, "width": width, "hidden": hidden, "layers": layers, "options": options or {}}
        self.family = family
        sizes, centres, spreads = [], [], []
        drawn = family.initial((DRAWS, 1), torch.Generator().manual_seed(0), **(options or {}))
        for name, spec in family.parameters.items():
            if not spec.trainable:
                raise ParameterError(f"{name} of {family} is never trained, and no network can make it")
            raw = spec.constraint.unconstrain(drawn[name].double()).reshape(DRAWS, -1)
            raw = raw.clamp(-10.0, 10.0)  # such as logits of probabilities that were drawn evenly
            sizes.append(raw.shape[1])
            centres.append(raw.mean(0))
            spreads.append(raw.std(0))
        self.sizes = sizes
        self.network = FourierNetwork(1, regions * sum(sizes), hidden, layers, generator)
        with torch.no_grad():
            self.network.head.mul_(torch.cat(spreads).repeat(regions).unsqueeze(1))
            self.network.bias.add_(torch.cat(centres).repeat(regions))

    def parameters_for(self, columns: Int64[Tensor, "n"]) -> dict[str, Tensor]:
        """Each parameter as (R, n, *event)."""
        points = midpoints(self.width, self.network.bias)[columns].unsqueeze(-1)
        made = self.network(points).view(len(points), self.regions, sum(self.sizes)).transpose(0, 1)
        parts = zip(self.family.parameters.items(), torch.split(made, self.sizes, -1), strict=True)
        return {
            name: spec.constraint.constrain(part if spec.event_ndim else part.squeeze(-1))
            for (name, spec), part in parts
        }

    def to_config(self) -> dict[str, Any]:
        """The sizes, and the family as files have it."""
        return {**self.config, "family": family_entry(self.family)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """A source of these sizes."""
        return cls(family_of(config["family"]), **{name: value for name, value in config.items() if name != "family"})


def network_leaves(family: AbstractFamily, hidden: int = 64, layers: int = 1, **options: float) -> Leaves:
    """Input units of any family, whose parameters a network makes: a function of the unit's point for each variable.

    **Arguments**

    - `hidden`, `layers`: the size of the network; see `FourierNetwork`.
    - `options`: those of the family's `initial`, such as `centre` and `spread` of a Normal.

    **Raises** `ParameterError` for a family that is not trained, or has no `initial`.

    >>> from pcircuits import families
    >>> network_leaves(families.DiscretizedLogistic(256))(range(4), 8, torch.Generator().manual_seed(0)).parameters.width
    8
    """
    random_leaves(family, **options)  # which raises for families without `initial`

    def make(variables: Sequence[Variable], width: int, generator: torch.Generator) -> Units:
        source = NetworkParameters(family, len(variables), width, hidden, layers, generator, options)
        return inputs(family, variables, Sourced(source, len(variables), width))

    return make
