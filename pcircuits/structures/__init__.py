"""Structures: region graphs, and builders of layered circuits from them."""

from pcircuits.structures.chain import chain
from pcircuits.structures.chow_liu import chow_liu_tree
from pcircuits.structures.clusters import cluster_states, neighbourhoods, windows
from pcircuits.structures.continuous import continuous_mixture, decoder_of, free_points, shifted_lattice
from pcircuits.structures.decoders import AbstractDecoder, Decoded, FactorisedDecoder, TreeDecoder
from pcircuits.structures.factorised import factorised
from pcircuits.structures.fitted_leaves import (
    Sharing,
    by_chance,
    by_clusters,
    by_quantiles,
    by_states,
    fitted_leaves,
)
from pcircuits.structures.hidden_markov import hidden_markov
from pcircuits.structures.hidden_tree import hidden_tree
from pcircuits.structures.information import (
    GaussianInformation,
    Information,
    QuantileInformation,
    StateInformation,
)
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
from pcircuits.structures.observed_trees import indicator_leaves, mixture_of_trees, observed_tree
from pcircuits.structures.patches import Patch
from pcircuits.structures.poon_domingos import poon_domingos
from pcircuits.structures.quad_graph import quad_graph
from pcircuits.structures.quad_tree import binary_quad_tree, quad_tree
from pcircuits.structures.random_binary_tree import random_binary_tree
from pcircuits.structures.region_graph import RegionGraph
from pcircuits.structures.replicas import replicas
from pcircuits.structures.tree_starts import RandomStart, TreeStart, counted_start
from pcircuits.structures.weights import RandomSimplices, Weights

__all__ = [
    "CP",
    "AbstractDecoder",
    "AbstractLayer",
    "Decoded",
    "FactorisedDecoder",
    "FourierNetwork",
    "FreePoints",
    "GaussianInformation",
    "Information",
    "Leaves",
    "LowRankCP",
    "MonarchCP",
    "NetworkParameters",
    "NetworkSimplices",
    "NetworkWeights",
    "Patch",
    "QuantileInformation",
    "RandomSimplices",
    "RandomStart",
    "RegionGraph",
    "SharedCP",
    "Sharing",
    "SobolPoints",
    "StateInformation",
    "TreeDecoder",
    "TreeStart",
    "Tucker",
    "Weights",
    "bernoulli_leaves",
    "binary_quad_tree",
    "by_chance",
    "by_clusters",
    "by_quantiles",
    "by_states",
    "categorical_leaves",
    "chain",
    "chow_liu_tree",
    "cluster_states",
    "continuous_mixture",
    "counted_start",
    "decoder_of",
    "discretized_logistic_leaves",
    "discretized_normal_leaves",
    "factorised",
    "fitted_leaves",
    "free_points",
    "hidden_markov",
    "hidden_tree",
    "indicator_leaves",
    "layered",
    "mixture_of_trees",
    "neighbourhoods",
    "network_leaves",
    "normal_leaves",
    "observed_tree",
    "poon_domingos",
    "quad_graph",
    "quad_tree",
    "random_binary_tree",
    "random_leaves",
    "replicas",
    "shifted_lattice",
    "windows",
]
