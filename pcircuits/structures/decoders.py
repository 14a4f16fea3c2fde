"""What is under a latent point of a continuous mixture: distributions of all variables, made by a decoder network."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import networkx as nx
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from pcircuits.arguments import as_generator
from pcircuits.circuit.algebra import concat
from pcircuits.circuit.leaves import inputs
from pcircuits.circuit.units import Mix, Units, Wiring
from pcircuits.errors import ParameterError, ScopeError
from pcircuits.families import Categorical, Indicator
from pcircuits.families.draws import uniform
from pcircuits.families.fields import integer
from pcircuits.families.interface import AbstractFamily
from pcircuits.io.types import family_entry, family_of
from pcircuits.parameters import Sourced
from pcircuits.scope import Variable, as_variables, order

__all__ = ["AbstractDecoder", "Decoded", "FactorisedDecoder", "TreeDecoder"]


class AbstractDecoder(nn.Module, ABC):
    """A network from latent points z (N, L) to N distributions over the same variables.

    Dense layers with leaky rectifiers under linear heads. The heads begin small, so that all points begin with nearly the
    same distribution, that of the heads' shifts. A member says what the numbers of the heads mean, and makes units of them.

    **Arguments**

    - `variables`: the labels of the variables, in the order of the data's columns.
    - `latents`: L, the length of z.
    - `heads`: how many numbers the network makes for a point.
    - `hidden`: the widths of the layers.
    - `generator`: what the first weights are drawn from.
    """

    def __init__(
        self,
        variables: Sequence[Variable],
        latents: int,
        heads: int,
        hidden: Sequence[int],
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.variables = as_variables(variables)
        self.latents, draws = integer(latents, "latents", least=1), as_generator(generator)
        self.hidden = [integer(width, "hidden", least=1) for width in hidden]
        self.weights, self.shifts = nn.ParameterList(), nn.ParameterList()
        sizes = [self.latents, *self.hidden, heads]
        for below, above in itertools.pairwise(sizes[:-1]):
            bound = math.sqrt(6 / (1.01 * below))  # numbers keep their size through a rectifier (He et al. 2015)
            self.weights.append(bound * (2 * uniform((above, below), torch.empty(0), draws) - 1))
            self.shifts.append(torch.zeros(above, dtype=torch.float64))
        scale = 0.1 * math.sqrt(3 / sizes[-2])
        self.head = nn.Parameter(scale * (2 * uniform((heads, sizes[-2]), torch.empty(0), draws) - 1))
        self.bias = nn.Parameter(torch.zeros(heads, dtype=torch.float64))

    def raw(self, z: Tensor, heads: Tensor | slice = slice(None)) -> Tensor:
        """The numbers of some heads, (N, H), for z (N, L)."""
        for weights, shift in zip(self.weights, self.shifts, strict=True):
            z = torch.nn.functional.leaky_relu(torch.addmm(shift, z, weights.t()))
        return torch.addmm(self.bias[heads], z, self.head[heads].t())

    @abstractmethod
    def units(self, points: nn.Module, count: int) -> Units:
        """Units (1, N) over all variables, one for each of N points, with `Decoded` as the source of their parameters."""

    @abstractmethod
    def made(self, z: Tensor, part: Tensor | None) -> dict[str, Tensor]:
        """The parameters of a part of the units for points z (n, L), as a source returns them: (R, n, *event)."""

    @abstractmethod
    def to_config(self) -> dict[str, Any]:
        """What `from_config` needs, as JSON."""

    @classmethod
    @abstractmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """A decoder of the same sizes."""


class Decoded(nn.Module):
    """The source of a part of the units of a continuous mixture: column n is what the decoder makes of point n.

    **Arguments**

    - `decoder`, `points`: modules that parts of one circuit share.
    - `part`: what the decoder is to make here, integers that it understands; None where there is one part.
    """

    part: Tensor | None

    def __init__(self, decoder: AbstractDecoder, points: nn.Module, part: Tensor | None = None) -> None:
        super().__init__()
        self.decoder, self.points = decoder, points
        self.register_buffer("part", part)

    def parameters_for(self, columns: Int64[Tensor, "n"]) -> dict[str, Tensor]:
        """For columns (n,): each parameter as (R, n, *event)."""
        points: Tensor = self.points()
        return self.decoder.made(points[columns], self.part)

    def to_config(self) -> dict[str, Any]:
        """The decoder and the points, by their types and configs."""
        held: dict[str, Any] = {"decoder": self.decoder, "points": self.points}
        parts = None if self.part is None else len(self.part)
        return {"part": parts} | {name: [type(one).__qualname__, one.to_config()] for name, one in held.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """A source of the same sizes."""
        from pcircuits.structures.continuous import KNOWN  # the decoders and points, which are made of this

        decoder, points = (KNOWN[name].from_config(own) for name, own in (config["decoder"], config["points"]))
        part = None if config["part"] is None else torch.zeros(config["part"], dtype=torch.int64)
        return cls(decoder, points, part)


class FactorisedDecoder(AbstractDecoder):
    """Under a point all variables are independent: p(x | z) = Π_v p(x_v | θ_v(z)).

    **Arguments**

    - `variables`: the labels.
    - `family`: of all variables, such as `families.Bernoulli()`.
    - `latents`, `hidden`, `generator`: see `AbstractDecoder`.

    **Raises** `ParameterError` for a family that is not trained.

    Correia, Gala, Quaeghebeur, de Campos and Peharz (2023), *Continuous Mixtures of Tractable Probabilistic Models*, §3.

    >>> from pcircuits import families
    >>> decoder = FactorisedDecoder(range(3), families.Bernoulli(), latents=2, hidden=(8,))
    >>> decoder.made(torch.zeros(5, 2, dtype=torch.float64), None)["probs"].shape
    torch.Size([3, 5])
    """

    def __init__(
        self,
        variables: Sequence[Variable],
        family: AbstractFamily,
        latents: int,
        hidden: Sequence[int] = (64, 128),
        generator: torch.Generator | None = None,
    ) -> None:
        self.family = family
        one = family.initial((1,), torch.Generator().manual_seed(0))
        self.sizes = [one[name].numel() for name in family.parameters]
        if frozen := [name for name, spec in family.parameters.items() if not spec.trainable]:
            raise ParameterError(f"{frozen} of {family} are never trained, and no decoder can make them")
        super().__init__(variables, latents, len(as_variables(variables)) * sum(self.sizes), hidden, generator)
        begin = [spec.constraint.unconstrain(one[name].double()).flatten() for name, spec in family.parameters.items()]
        if family.base == "lebesgue" or len(begin) > 1:  # probabilities begin evenly
            with torch.no_grad():
                self.bias.add_(torch.cat(begin).repeat(len(self.variables)))

    def units(self, points: nn.Module, count: int) -> Units:
        source = Decoded(self, points)
        return inputs(self.family, self.variables, Sourced(source, len(self.variables), count)).prod()

    def made(self, z: Tensor, part: Tensor | None) -> dict[str, Tensor]:
        raw = self.raw(z).view(len(z), len(self.variables), sum(self.sizes)).transpose(0, 1)
        parts = zip(self.family.parameters.items(), torch.split(raw, self.sizes, -1), strict=True)
        return {
            name: spec.constraint.constrain(own if spec.event_ndim else own.squeeze(-1)) for (name, spec), own in parts
        }

    def to_config(self) -> dict[str, Any]:
        own = {"variables": list(self.variables), "family": family_entry(self.family)}
        return own | {"latents": self.latents, "hidden": self.hidden}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**{**config, "family": family_of(config["family"])})


class TreeDecoder(AbstractDecoder):
    """Under a point the variables are a tree: p(x | z) = Π_v p(x_v | x_parent(v), θ_v(z)), such as a Chow-Liu tree.

    **Arguments**

    - `tree`: an undirected networkx tree over the variables; its centre becomes the root.
    - `states`: S, of every variable.
    - `latents`, `hidden`, `generator`: see `AbstractDecoder`.

    **Raises** `ScopeError` for a graph that is no tree.

    Correia, Gala, Quaeghebeur, de Campos and Peharz (2023), *Continuous Mixtures of Tractable Probabilistic Models*, §3.

    >>> decoder = TreeDecoder(nx.path_graph(3), states=2, latents=2, hidden=(8,))
    >>> decoder.made(torch.zeros(5, 2, dtype=torch.float64), torch.tensor([0, 1]))["log_weights"].shape
    torch.Size([2, 5, 2])
    """

    def __init__(
        self,
        tree: nx.Graph,
        states: int,
        latents: int,
        hidden: Sequence[int] = (64, 128),
        generator: torch.Generator | None = None,
    ) -> None:
        if not isinstance(tree, nx.Graph) or tree.is_directed() or not len(tree) or not nx.is_tree(tree):
            raise ScopeError(f"the variables of a tree decoder are an undirected networkx tree, not {tree!r}")
        self.states = integer(states, "states", least=2)
        self.tree = _in_order(tree)
        (root,) = nx.center(self.tree)[:1]
        self.parent: dict[Variable, Variable | None] = {root: None}
        self.parent |= {below: above for above, below in nx.bfs_edges(self.tree, root)}
        self.place = {label: number for number, label in enumerate(self.parent)}
        super().__init__(self.tree.graph["variables"], latents, len(tree) * self.states**2, hidden, generator)

    def rows(self, labels: Sequence[Variable]) -> Tensor:
        """The numbers of the tables of variables: for each, one for every state of its parent; the root has one alone."""
        above = [1 if self.parent[label] is None else self.states for label in labels]
        return torch.tensor(
            [self.place[v] * self.states + s for v, n in zip(labels, above, strict=True) for s in range(n)]
        )

    def units(self, points: nn.Module, count: int) -> Units:
        depth: dict[Variable, int] = {}
        for label, above in self.parent.items():
            depth[label] = 0 if above is None else depth[above] + 1
        messages: Units | None = None
        first: dict[Variable, int] = {}
        for level in sorted(set(depth.values()), reverse=True):
            labels = [label for label in depth if depth[label] == level]
            messages, first = self._level(labels, messages, first, points, count)
        assert messages is not None
        return messages

    def _level(
        self, labels: list[Variable], below: Units | None, first: dict[Variable, int], points: nn.Module, count: int
    ) -> tuple[Units, dict[Variable, int]]:
        """Messages of variables of one depth: a region for each variable and state of its parent, which its units are given.

        `first` says at which of the regions `below` those of a variable begin.
        """
        children = {label: [c for c in first if self.parent[c] == label] for label in labels}
        ends = [label for label in labels if not children[label]]
        inner = [label for label in labels if children[label]]
        arrays: list[Units] = []
        if ends:
            repeated = [label for label in ends for _ in self.rows([label])]
            source = Decoded(self, points, self.rows(ends) + self._inputs)
            arrays.append(inputs(Categorical(self.states), repeated, Sourced(source, len(repeated), count)))
        if inner:
            assert below is not None
            arrays.append(self._sums(inner, children, below, first, points, count))
        place: dict[Variable, int] = {}
        for label in [*ends, *inner]:
            place[label] = sum(len(self.rows([known])) for known in place)
        return (arrays[0] if len(arrays) == 1 else concat(arrays, axis="regions")), place

    @property
    def _inputs(self) -> int:
        """Rows from here on are asked for as probabilities of input units, those before as weights of sums."""
        return len(self.place) * self.states

    def _sums(
        self,
        labels: list[Variable],
        children: dict[Variable, list[Variable]],
        below: Units,
        first: dict[Variable, int],
        points: nn.Module,
        count: int,
    ) -> Units:
        """Σ_t p(x_v = t | parent's state) [x_v = t] Π_c message_c(t), for the variables of one depth that have children."""
        states = range(self.states)
        repeated = [label for label in labels for _ in states]
        state = torch.tensor(list(states) * len(labels), dtype=torch.float64).view(-1, 1).expand(-1, count)
        seen = inputs(Indicator(), repeated, {"state": state})
        offset = seen.regions
        groups = [
            [i * self.states + t, *(offset + first[child] + t for child in children[label])]
            for i, label in enumerate(labels)
            for t in states
        ]
        given = concat([seen, below], axis="regions").prod(groups)  # region i·S + t
        rows = [i for i, label in enumerate(labels) for _ in self.rows([label])]
        region = [torch.tensor(rows).numpy() * self.states + t for t in states]
        terms = [Wiring((given,), region[t] * 0, region[t]) for t in states]
        return Mix(terms, Sourced(Decoded(self, points, self.rows(labels)), len(rows), count))

    def made(self, z: Tensor, part: Tensor | None) -> dict[str, Tensor]:
        assert part is not None
        probabilities = bool(part[0] >= self._inputs)
        rows = part - self._inputs if probabilities else part
        heads = (rows[:, None] * self.states + torch.arange(self.states, device=rows.device)).flatten()
        raw = self.raw(z, heads).view(len(z), len(rows), self.states).transpose(0, 1)
        return {"probs": torch.softmax(raw, -1)} if probabilities else {"log_weights": raw}

    def to_config(self) -> dict[str, Any]:
        labels, edges = list(self.variables), [list(edge) for edge in self.tree.edges]
        return {"labels": labels, "edges": edges, "states": self.states, "latents": self.latents, "hidden": self.hidden}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        tree = nx.Graph(variables=config["labels"])
        tree.add_nodes_from(config["labels"])
        tree.add_edges_from(config["edges"])
        return cls(tree, config["states"], config["latents"], config["hidden"])


def _in_order(tree: nx.Graph) -> nx.Graph:
    """The same tree, with nodes and edges in the order of the columns, so that whoever makes it has the same root."""
    variables = order(list(tree), tree.graph.get("variables"))
    place = {label: number for number, label in enumerate(variables)}
    made = nx.Graph(variables=variables)
    made.add_nodes_from(variables)
    edges = [sorted(place[label] for label in edge) for edge in tree.edges]
    made.add_edges_from((variables[first], variables[second]) for first, second in sorted(edges))
    return made
