"""Structures: region graphs, and builders of layered circuits from them."""

from pcircuits.structures.chain import chain
from pcircuits.structures.chow_liu import chow_liu_tree
from pcircuits.structures.clusters import cluster_states, neighbourhoods, windows
from pcircuits.structures.hidden_tree import hidden_tree
from pcircuits.structures.information import (
    GaussianInformation,
    Information,
    QuantileInformation,
    StateInformation,
)
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
from pcircuits.structures.tree_starts import RandomStart, TreeStart, counted_start
from pcircuits.structures.weights import RandomSimplices

__all__ = [
    "CP",
    "AbstractLayer",
    "GaussianInformation",
    "Information",
    "Leaves",
    "Patch",
    "QuantileInformation",
    "RandomSimplices",
    "RandomStart",
    "RegionGraph",
    "StateInformation",
    "TreeStart",
    "Tucker",
    "bernoulli_leaves",
    "binary_quad_tree",
    "categorical_leaves",
    "chain",
    "chow_liu_tree",
    "cluster_states",
    "counted_start",
    "discretized_logistic_leaves",
    "discretized_normal_leaves",
    "hidden_tree",
    "layered",
    "neighbourhoods",
    "normal_leaves",
    "quad_graph",
    "quad_tree",
    "random_binary_tree",
    "random_leaves",
    "windows",
]
