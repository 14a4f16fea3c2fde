"""Mixtures of input units that all variables share: many units with few parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pcircuits.circuit.algebra import concat
from pcircuits.circuit.leaves import inputs
from pcircuits.circuit.units import Units
from pcircuits.errors import ParameterError
from pcircuits.families.fields import integer
from pcircuits.families.interface import AbstractFamily
from pcircuits.parameters import Parameter
from pcircuits.scope import Variable
from pcircuits.structures.leaves import Leaves
from pcircuits.structures.weights import RandomSimplices

__all__ = ["quantile_tables", "shared_leaves"]


def shared_leaves(family: AbstractFamily, parameters: Mapping[str, Tensor]) -> Leaves:
    """Units that are mixtures of M components, which all variables have in common: p_vk(x) = Σ_m a_vkm p_m(x).

    A table of 256 states for every pixel and state of its latent has more parameters than an image data set can tell. M
    components see the values of all pixels, and each unit learns M weights instead of 256 numbers.

    **Arguments**

    - `parameters`: those of the components, (M, *event) each; they are trained, as one for all variables.

    **Raises** `ParameterError` for parameters that do not suit the family.

    >>> from pcircuits.families import Categorical
    >>> leaves = shared_leaves(Categorical(2), {"probs": torch.tensor([[0.9, 0.1], [0.2, 0.8]])})
    >>> leaves(["x", "y"], 3, torch.Generator().manual_seed(0))
    Sum(2, 3)
    """
    shared = {
        name: Parameter(value.unsqueeze(0), family.parameters[name].constraint, name=f"{name} of shared components")
        for name, value in parameters.items()
    }

    def make(variables: Sequence[Variable], width: int, generator: torch.Generator) -> Units:
        components = [inputs(family, [variable], shared) for variable in variables]
        return concat(components, "regions").sum(RandomSimplices(generator)(len(variables), width, components[0].width))

    return make


def quantile_tables(values: Tensor, states: int, components: int) -> Tensor:
    """Tables (M, S) of M components, each about a quantile of the values, to start `shared_leaves` of categorical units.

    One component is the most frequent state, which may be most of the data, such as the black of a background. The others
    are q(s) exp(−(M − 1) |F(s) − F_m|), with q the shares of the states, and F their distribution without the first
    component's state, whose M − 1 equal parts have the middles F_m.

    **Arguments**

    - `values`: integers 0..S-1, of any shape.

    **Raises** `ParameterError` for fewer than two components, or than one state.

    >>> quantile_tables(torch.tensor([0, 0, 0, 1, 2]), 3, 3).argmax(1)
    tensor([0, 1, 2])
    """
    components, states = integer(components, "components", least=2), integer(states, "states", least=1)
    if values.numel() and (int(values.min()) < 0 or int(values.max()) >= states):
        raise ParameterError(f"values are within {int(values.min())}..{int(values.max())}, not within 0..{states - 1}")
    shares = torch.bincount(values.flatten().long(), minlength=states).double() + 1.0
    shares = shares / shares.sum()
    first = int(shares.argmax())
    others = shares.clone()
    others[first] = 0.0
    level = (others.cumsum(0) - others / 2) / others.sum()
    middle = (torch.arange(components - 1, dtype=torch.float64) + 0.5) / (components - 1)
    near = others * torch.exp(-(components - 1) * (level - middle.unsqueeze(1)).abs())
    spike = torch.full((1, states), 1e-6, dtype=torch.float64)
    spike[0, first] = 1.0
    near[:, first] = 1e-4 * near.sum(1)
    tables = torch.cat([spike, near])
    return tables / tables.sum(1, keepdim=True)
