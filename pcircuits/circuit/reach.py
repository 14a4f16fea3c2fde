"""The regions that a root depends on; the others do not affect any query."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pcircuits.circuit.kinds import Regions, Units

__all__ = ["Regions", "used_regions"]


def used_regions(arrays: Sequence[Units]) -> dict[int, Regions]:
    """For each array (by id) the regions (R,) that the last array depends on, through any number of others.

    **Arguments**

    - `arrays`: children before parents, the root last.
    """
    if all(array.regions == 1 and array.kind != "wiring" for array in arrays):
        everything = np.ones(1, bool)  # circuits built unit by unit: what is below the root is used
        return {id(array): everything for array in arrays}
    used = {id(array): np.zeros(array.regions, bool) for array in arrays}
    used[id(arrays[-1])][:] = True
    for array in reversed(arrays):
        wanted = used[id(array)]
        if wanted.any():
            array.mark_used(wanted, [used[id(child)] for child in array.children])
    return used
