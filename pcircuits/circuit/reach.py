"""Which regions a root depends on: what is wired to nothing above it has no say in the circuit's answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pcircuits.circuit.units import Product, Units, Wiring

__all__ = ["Regions", "used_regions"]

Regions = NDArray[np.bool_]
"""For each region of an array, (R,), whether it is meant."""


def used_regions(arrays: Sequence[Units]) -> dict[int, Regions]:
    """For each array (by id) the regions (R,) that the last array depends on, through any number of others.

    **Arguments**

    - `arrays`: children before parents, the root last.
    """
    used = {id(array): np.zeros(array.regions, bool) for array in arrays}
    used[id(arrays[-1])][:] = True
    for array in reversed(arrays):
        wanted = used[id(array)]
        if wanted.any():
            _pass_down(array, wanted, [used[id(child)] for child in array.children])
    return used


def _pass_down(array: Units, wanted: Regions, children: list[Regions]) -> None:
    """Mark the regions of the children that the wanted regions of an array are computed from."""
    if isinstance(array, Wiring):
        child, region = array.child[wanted], array.region[wanted]
        for number, used in enumerate(children):
            used[region[child == number]] = True
    elif isinstance(array, Product) and array.groups is not None:
        for r in np.flatnonzero(wanted):
            children[0][list(array.groups[r])] = True
    else:
        for used in children:
            used |= wanted if len(used) == len(wanted) else True
