"""Structures: region graphs, and builders of layered circuits from them."""

from pcircuits.structures.chain import chain
from pcircuits.structures.continuous import continuous_mixture, decoder_of, free_points, shifted_lattice
from pcircuits.structures.decoders import AbstractDecoder, Decoded, FactorisedDecoder, TreeDecoder
from pcircuits.structures.latents import FreePoints, SobolPoints
from pcircuits.structures.layered import layered
from pcircuits.structures.layers import CP, AbstractLayer, LowRankCP, MonarchCP, SharedCP, Tucker
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
from pcircuits.structures.replicas import replicas
from pcircuits.structures.weights import RandomSimplices, Weights

SOURCES = (Decoded, NetworkParameters, NetworkWeights)
"""The sources of the library, which files know by name."""

__all__ = [
    "CP",
    "SOURCES",
    "AbstractDecoder",
    "AbstractLayer",
    "Decoded",
    "FactorisedDecoder",
    "FourierNetwork",
    "FreePoints",
    "Leaves",
    "LowRankCP",
    "MonarchCP",
    "NetworkParameters",
    "NetworkSimplices",
    "NetworkWeights",
    "Patch",
    "RandomSimplices",
    "RegionGraph",
    "SharedCP",
    "SobolPoints",
    "TreeDecoder",
    "Tucker",
    "Weights",
    "bernoulli_leaves",
    "binary_quad_tree",
    "categorical_leaves",
    "chain",
    "continuous_mixture",
    "decoder_of",
    "discretized_logistic_leaves",
    "discretized_normal_leaves",
    "free_points",
    "layered",
    "network_leaves",
    "normal_leaves",
    "quad_graph",
    "quad_tree",
    "random_binary_tree",
    "random_leaves",
    "replicas",
    "shifted_lattice",
]
