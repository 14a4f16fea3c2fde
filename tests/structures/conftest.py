"""Small layered circuits of every structure, with CP and Tucker layers, several roots and several families."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor

import pcircuits as pc
from pcircuits import structures as st
from pcircuits.scope import Variable
from pcircuits.testing import Oracle


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weather_graph() -> st.RegionGraph:
    """A graph of a user's own: parts of three sizes, two partitions of different arities, and a leaf of two variables."""
    return st.RegionGraph(
        {
            "all": ["rain", "wet", "heat", "wind"],
            "sky": ["rain", "wind"],
            "ground": ["wet", "heat"],
            "rest": ["wet", "heat", "wind"],
            "rain": "rain",
            "wet": "wet",
            "heat": "heat",
            "wind": "wind",
        },
        {
            "all": [("sky", "ground"), ("rain", "rest"), ("sky", "wet", "heat")],
            "rest": [("wet", "heat", "wind")],
            "sky": [("rain", "wind")],
        },
    )


def weather_leaves(variables: Sequence[Variable], width: int, generator: torch.Generator) -> pc.Units:
    """Heat is a density, wind has three states, and the rest two."""
    kinds = {"heat": st.normal_leaves(), "wind": st.categorical_leaves(3)}
    made = [kinds.get(label, st.bernoulli_leaves())([label], width, generator) for label in variables]
    return pc.concat(made, axis="regions")


def cells() -> nx.Graph:
    """A tree of four nodes: two cells of two columns, of different kinds, and two columns by themselves."""
    tree = nx.Graph(
        [("ground", "sky"), ("ground", "day"), ("day", "light")], variables=[*weather_graph().variables, "light", "day"]
    )
    nx.set_node_attributes(tree, {"ground": ["wet", "heat"], "sky": ["rain", "wind"]}, "scope")
    return tree


def counted() -> pc.Circuit:
    """A hidden tree that starts from eight rows, of which one misses a value, for two classes."""
    data = torch.tensor(
        [[0, 2, 0.5], [1, 1, 0.1], [0, math.nan, 2], [1, 0, 0.7], [0, 2, 0.6], [1, 1, 2], [1, 0, 1], [0, 0, 0]]
    )
    latents = torch.tensor([[0, 1, 1], [0, 0, 1], [1, 0, 2], [1, 1, 1], [0, 1, 1], [0, 0, 2], [1, 0, 1], [1, 1, 0]])
    kinds = {0: st.bernoulli_leaves(), 1: st.categorical_leaves(3), 2: st.normal_leaves()}

    def leaves(variables: Sequence[Variable], width: int, generator: torch.Generator) -> pc.Units:
        return pc.concat([kinds[label]([label], width, generator) for label in variables], axis="regions")

    start = st.counted_start(data, latents, classes=torch.tensor([0, 0, 1, 1, 0, 1, 1, 0]))
    return st.hidden_tree(nx.star_graph(2), leaves, 3, 2, start, generator=seeded(15))


def circuits() -> dict[str, Callable[[], pc.Circuit]]:
    """Constructors by name."""
    cp, tucker = st.CP(), st.Tucker()
    tree = st.random_binary_tree([*"vwxyz"], 1, 2, seeded(1))
    deep = st.random_binary_tree(range(5), 3, 2, seeded(2))
    return {
        "quad graph, CP": lambda: st.layered(st.quad_graph(2, 3), st.categorical_leaves(2), 3, cp, generator=seeded(3)),
        "quad graph, Tucker": lambda: st.layered(
            st.quad_graph(2, 2), st.categorical_leaves(3), 2, tucker, generator=seeded(4)
        ),
        "quad tree, CP, two roots": lambda: st.layered(
            st.quad_tree(2, 3), st.bernoulli_leaves(), 2, cp, 2, generator=seeded(5)
        ),
        "quad tree, Tucker": lambda: st.layered(
            st.quad_tree(2, 2), st.discretized_normal_leaves(3, 0.3), 2, tucker, generator=seeded(6)
        ),
        "binary quad tree, Tucker, two roots": lambda: st.layered(
            st.binary_quad_tree(3, 2), st.bernoulli_leaves(), 2, tucker, 2, generator=seeded(7)
        ),
        "random trees, factorised leaves": lambda: st.layered(
            tree, st.normal_leaves(0.5, 2.0), 2, cp, 3, generator=seeded(8)
        ),
        "random trees, Tucker": lambda: st.layered(deep, st.categorical_leaves(2), 2, tucker, generator=seeded(9)),
        "chain": lambda: st.layered(
            st.chain(["d", "c", "b", "a"]), st.discretized_logistic_leaves(3, 0.2, 0.1), 3, cp, 2, generator=seeded(10)
        ),
        "hidden Markov": lambda: st.hidden_markov(6, 2, st.categorical_leaves(2), generator=seeded(14)),
        "hidden Markov, own parameters, two roots": lambda: st.hidden_markov(
            2, 3, st.normal_leaves(), False, 2, features=2, generator=seeded(15)
        ),
        "hidden Markov, two features": lambda: st.hidden_markov(
            3, 2, st.bernoulli_leaves(), features=2, generator=seeded(16)
        ),
        "hidden Markov with latents": lambda: pc.with_latents(
            st.hidden_markov(4, 2, st.categorical_leaves(2), roots=2, generator=seeded(17))
        ),
        "quad graph, by networks": lambda: st.layered(
            st.quad_graph(2, 3),
            st.network_leaves(pc.families.Categorical(2), hidden=4),
            3,
            weights=st.NetworkSimplices(seeded(14), hidden=4, layers=2),
            generator=seeded(15),
        ),
        "random trees, Tucker, by networks, two roots": lambda: st.layered(
            deep,
            st.network_leaves(pc.families.DiscretizedNormal(3), hidden=4, scale=0.3),
            2,
            tucker,
            2,
            weights=st.NetworkSimplices(seeded(16), hidden=4),
            generator=seeded(17),
        ),
        "continuous mixture": lambda: spread(
            st.FactorisedDecoder(["d", "c", "b"], pc.families.Categorical(3), 2, (4,), seeded(18)), 5
        ),
        "continuous mixture of trees": lambda: spread(
            st.TreeDecoder(nx.Graph([(0, 1), (1, 2), (1, 3), (3, 4)]), 2, 2, (4,), seeded(19)), 4
        ),
        "quad graph, shared CP": lambda: st.layered(
            st.quad_graph(2, 3), st.categorical_leaves(2), 3, st.SharedCP(), generator=seeded(20)
        ),
        "quad tree, low rank": lambda: st.layered(
            st.quad_tree(2, 2), st.categorical_leaves(3), 3, st.LowRankCP(2), generator=seeded(21)
        ),
        "quad graph, Monarch, two roots": lambda: st.layered(
            st.quad_graph(2, 2), st.categorical_leaves(2), 6, st.MonarchCP(), 2, generator=seeded(22)
        ),
        "replicas, Tucker": lambda: st.layered(
            st.replicas(st.random_binary_tree(range(4), 2, 1, seeded(23)), 2),
            st.categorical_leaves(2),
            2,
            tucker,
            generator=seeded(24),
        ),
        "hidden tree": lambda: st.hidden_tree(
            nx.random_labeled_tree(6, seed=0), st.categorical_leaves(2), 3, generator=seeded(13)
        ),
        "hidden tree over cells, two roots": lambda: st.hidden_tree(
            cells(), weather_leaves, 2, 2, generator=seeded(14)
        ),
        "hidden tree, counted, two roots": counted,
        "observed tree": lambda: st.observed_tree(
            nx.path_graph(4), [[0, 1, 2, 0], [1, 1, 0, 1], [0, 2, 2, 1]], states=3, pseudocount=0.3
        ),
        "mixture of trees": lambda: st.mixture_of_trees(
            [[0, 1, 1, 0], [1, 1, 0, 1], [0, 0, 1, 1], [1, 0, 0, 0]], 2, pseudocount=0.2, generator=seeded(16)
        ),
        "all rectangles, Tucker": lambda: st.layered(
            st.poon_domingos(2, 2), st.bernoulli_leaves(), 2, tucker, generator=seeded(17)
        ),
        "mixture of products": lambda: st.layered(
            st.factorised("abc"), st.categorical_leaves(3), 3, roots=2, generator=seeded(18)
        ),
        "own graph, CP": lambda: st.layered(weather_graph(), weather_leaves, 2, cp, generator=seeded(11)),
        "own graph, Tucker": lambda: st.layered(weather_graph(), weather_leaves, 2, tucker, 2, generator=seeded(12)),
    }


def spread(decoder: st.AbstractDecoder, points: int) -> pc.Circuit:
    """A continuous mixture whose components are not nearly the same, as they are before training."""
    with torch.no_grad():
        decoder.head.mul_(20.0)
    return st.continuous_mixture(decoder, points)


@dataclass(eq=False)
class Case:
    """A circuit, its oracle, its model, and rows to ask about."""

    circuit: pc.Circuit

    @cached_property
    def oracle(self) -> Oracle:
        return Oracle(self.circuit)

    @cached_property
    def model(self) -> pc.CompiledCircuit:
        return self.circuit.compile(dtype=torch.float64)

    @property
    def roots(self) -> range:
        return range(self.circuit.num_roots)

    def of_root(self, root: int) -> pc.queries.compiled.Queries:
        return self.model.root(root) if len(self.roots) > 1 else self.model

    @property
    def finite(self) -> bool:
        return all(array.family.states is not None for array in self.circuit.inputs)

    def states(self, label: Variable) -> list[float]:
        leaves = self.oracle.leaves_of[label]
        return [-1.5, 0.25, 2.0] if leaves[0].states is None else self.oracle.candidates(label)

    @cached_property
    def full(self) -> Tensor:
        """Rows without a missing value, (12, D)."""
        pick = np.random.default_rng(0)
        return torch.tensor([[pick.choice(self.states(label)) for label in self.circuit.variables] for _ in range(12)])

    @cached_property
    def rows(self) -> Tensor:
        """The same with values missing: all in the first row, none in the last."""
        share = torch.linspace(1, 0, len(self.full)).double().unsqueeze(1)
        hidden = torch.rand(self.full.shape, generator=seeded(13), dtype=torch.float64) < share
        return self.full.masked_fill(hidden, math.nan)

    def row(self, values: Tensor) -> dict[Variable, float]:
        return self.oracle.row(values.tolist())


@cache
def _case(name: str) -> Case:
    return Case(circuits()[name]())


@pytest.fixture(params=list(circuits()))
def case(request: pytest.FixtureRequest) -> Case:
    """One small circuit after the other."""
    return _case(request.param)
