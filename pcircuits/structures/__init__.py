"""Structures: region graphs, and builders of layered circuits from them."""

from pcircuits.structures.chain import chain
from pcircuits.structures.chow_liu import chow_liu_tree
from pcircuits.structures.clusters import cluster_states, neighbourhoods, windows
from pcircuits.structures.factorised import factorised
from pcircuits.structures.fitted_leaves import (
    Sharing,
    by_chance,
    by_clusters,
    by_quantiles,
    by_states,
    fitted_leaves,
)
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
from pcircuits.structures.observed_trees import indicator_leaves, mixture_of_trees, observed_tree
from pcircuits.structures.patches import Patch
from pcircuits.structures.poon_domingos import poon_domingos
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
    "Sharing",
    "StateInformation",
    "TreeStart",
    "Tucker",
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
    "counted_start",
    "discretized_logistic_leaves",
    "discretized_normal_leaves",
    "factorised",
    "fitted_leaves",
    "hidden_tree",
    "indicator_leaves",
    "layered",
    "mixture_of_trees",
    "neighbourhoods",
    "normal_leaves",
    "observed_tree",
    "poon_domingos",
    "quad_graph",
    "quad_tree",
    "random_binary_tree",
    "random_leaves",
    "windows",
]
