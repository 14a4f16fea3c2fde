"""Random binary trees over any variables, several of them under one root."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch

from pcircuits.arguments import as_generator
from pcircuits.errors import ScopeError
from pcircuits.families.fields import integer
from pcircuits.scope import Variable, as_variables
from pcircuits.structures.region_graph import RegionGraph

__all__ = ["random_binary_tree"]


def random_binary_tree(
    variables: Sequence[Variable], depth: int, repetitions: int, generator: torch.Generator
) -> RegionGraph:
    """The region graph of a random and tensorised circuit (RAT): halves drawn at random, several times over.

    Each repetition splits all variables into two random halves, each of these again, `depth` times in all or until a
    region has one variable. Leaf regions hold about D / 2^depth variables, and repetitions share only the root. A
    region's name is (repetition, level, number), and the root's is "root".

    **Arguments**

    - `variables`: the labels of D >= 2 variables.
    - `depth`: the number of splits between the root and a leaf, at least 1.
    - `repetitions`: the number of trees, at least 1.
    - `generator`: what the halves are drawn from.

    **Raises** `ScopeError` for fewer than two variables and for labels that come twice.

    Peharz et al. (2019), *Random Sum-Product Networks: A Simple and Effective Approach to Probabilistic Deep Learning*,
    algorithm 1.

    >>> random_binary_tree(range(8), depth=2, repetitions=3, generator=torch.Generator().manual_seed(0))
    RegionGraph(8 variables, 19 regions, 9 partitions)
    """
    labels = as_variables(variables)
    draws = as_generator(generator)
    depth, repetitions = integer(depth, "depth", least=1), integer(repetitions, "repetitions", least=1)
    if len(labels) < 2:
        raise ScopeError(f"a random binary tree splits two variables or more, not only {labels[0]!r}")
    scopes: dict[Hashable, tuple[Variable, ...]] = {"root": labels}
    partitions: dict[Hashable, list[tuple[Hashable, ...]]] = {"root": []}
    for repetition in range(repetitions):
        level: list[Hashable] = ["root"]
        for number in range(depth):
            below: list[Hashable] = []
            for region in level:
                if len(scopes[region]) > 1:
                    names = (repetition, number + 1, len(below)), (repetition, number + 1, len(below) + 1)
                    for name, half in zip(names, _random_halves(scopes[region], draws), strict=True):
                        scopes[name] = half
                    partitions.setdefault(region, []).append(names)
                    below += names
            level = below
    return RegionGraph(scopes, partitions)


def _random_halves(
    labels: tuple[Variable, ...], generator: torch.Generator | None
) -> tuple[tuple[Variable, ...], tuple[Variable, ...]]:
    device = None if generator is None else generator.device
    shuffled = [labels[i] for i in torch.randperm(len(labels), generator=generator, device=device).tolist()]
    return tuple(shuffled[: len(labels) // 2]), tuple(shuffled[len(labels) // 2 :])
