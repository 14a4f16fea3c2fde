"""Structures: region graphs, and builders of layered circuits from them."""

from pcircuits.structures.chain import chain
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
from pcircuits.structures.networks import (
    FourierNetwork,
    NetworkParameters,
    NetworkSimplices,
    NetworkWeights,
    network_leaves,
)
from pcircuits.structures.patches import Patch
from pcircuits.structures.quad_graph import quad_graph
from pcircuits.structures.quad_tree import binary_quad_tree, quad_tree
from pcircuits.structures.random_binary_tree import random_binary_tree
from pcircuits.structures.region_graph import RegionGraph
from pcircuits.structures.weights import RandomSimplices, Weights

SOURCES = (NetworkParameters, NetworkWeights)
"""The sources of the library, which files know by name."""

__all__ = [
    "CP",
    "SOURCES",
    "AbstractLayer",
    "FourierNetwork",
    "Leaves",
    "NetworkParameters",
    "NetworkSimplices",
    "NetworkWeights",
    "Patch",
    "RandomSimplices",
    "RegionGraph",
    "Tucker",
    "Weights",
    "bernoulli_leaves",
    "binary_quad_tree",
    "categorical_leaves",
    "chain",
    "discretized_logistic_leaves",
    "discretized_normal_leaves",
    "layered",
    "network_leaves",
    "normal_leaves",
    "quad_graph",
    "quad_tree",
    "random_binary_tree",
    "random_leaves",
]
