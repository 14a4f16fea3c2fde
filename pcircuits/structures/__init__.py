"""Structures: region graphs, and builders of layered circuits from them."""

from pcircuits.structures.chain import chain
from pcircuits.structures.hidden_markov import hidden_markov
from pcircuits.structures.layered import layered
from pcircuits.structures.layers import CP, AbstractLayer, Tucker
from pcircuits.structures.leaves import (
    Leaves,
    bernoulli_leaves,
    categorical_leaves,
    discretized_logistic_leaves,
    discretized_normal_leaves,
    normal_leaves,
    random_leaves,
)
from pcircuits.structures.patches import Patch
from pcircuits.structures.quad_graph import quad_graph
from pcircuits.structures.quad_tree import binary_quad_tree, quad_tree
from pcircuits.structures.random_binary_tree import random_binary_tree
from pcircuits.structures.region_graph import RegionGraph
from pcircuits.structures.weights import RandomSimplices

__all__ = [
    "CP",
    "AbstractLayer",
    "Leaves",
    "Patch",
    "RandomSimplices",
    "RegionGraph",
    "Tucker",
    "bernoulli_leaves",
    "binary_quad_tree",
    "categorical_leaves",
    "chain",
    "discretized_logistic_leaves",
    "discretized_normal_leaves",
    "hidden_markov",
    "layered",
    "normal_leaves",
    "quad_graph",
    "quad_tree",
    "random_binary_tree",
    "random_leaves",
]
