"""Evidence: what is known of each row of data, in any of the forms that users have it in."""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from pcircuits.evidence.evidence import Evidence
from pcircuits.evidence.frames import SupportsToNumpy
from pcircuits.evidence.variables import Variables

__all__ = ["Evidence", "EvidenceLike", "Variables"]

EvidenceLike = Tensor | NDArray[Any] | Sequence[Any] | Mapping[Any, Any] | SupportsToNumpy | Evidence
"""An array (B, D) of any library, or nested lists, with NaN or a mask of `numpy.ma` for what is missing; a pair
(values, mask), where True is observed; a data frame with a column for each variable; a dict from variables to values."""
