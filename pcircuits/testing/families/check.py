"""`check_family`: whether a family keeps the whole contract of `pcircuits.families.interface`."""

from __future__ import annotations

from pcircuits.families.interface import AbstractFamily, AbstractUnivariate, Parameters
from pcircuits.testing.families.joint import check_joint
from pcircuits.testing.families.univariate import check_univariate

__all__ = ["check_family"]


def check_family(family: AbstractFamily, parameters: Parameters, *, draws: int = 4000, seed: int = 0) -> None:
    """Check every method of a family against sums over its states, or integrals of its density.

    Densities must be smooth on their support, with tails that 40 standard deviations hold; so must the counts of a family
    without a largest state. A family over several variables is checked under every pattern of what is observed, one missing
    variable at a time: two or three variables are enough.

    **Arguments**

    - `parameters`: float64, for a few units: name to (*units, *event). Extreme and structural values are welcome.
    - `draws`: how many samples to test for each unit; the test rejects one correct family in 10,000.
    - `seed`: of the samples.

    **Raises** `AssertionError` that names the method, the unit and the values that disagree.

    >>> import torch
    >>> from pcircuits.families import Normal
    >>> check_family(Normal(), {"loc": torch.tensor([0.0, 9.0]).double(), "scale": torch.tensor([1.0, 0.1]).double()})
    """
    if isinstance(family, AbstractUnivariate):
        check_univariate(family, parameters, draws, seed)
    else:
        check_joint(family, parameters, draws, seed)
