"""Calibration: the scales of a decoder, fitted to data that have other codes than the set's."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor, nn

import pcircuits as pc
from pcircuits import learning
from pcircuits.errors import ParameterError
from pcircuits.families.interface import AbstractUnivariate
from pcircuits.learning import FitSettings
from pcircuits.scope import Variable
from vq_sources.codes import CodeSet
from vq_sources.distil import Weights, component_weights, in_column_order
from vq_sources.protocols import VQDecoder, check_codes, grid_of, leaf_groups, likelihood_by_group

__all__ = ["CalibratedDecoder", "calibrate"]


class CalibratedDecoder(nn.Module):
    """A decoder whose scales are multiplied by a factor for each variable.

    scale_v = f_v · scale_v(z); all else is the decoder's.

    **Arguments**

    - `model`: a decoder; a copy is kept, in evaluation mode.
    - `factors`: f, (D,), positive, in the order of the columns; those of families without a scale count nothing.
    """

    factors: Tensor

    def __init__(self, model: VQDecoder, factors: Float[Tensor, " D"]) -> None:
        super().__init__()
        alone = getattr(model, "decoder_alone", None)
        self.model: Any = copy.deepcopy(alone() if callable(alone) else model)
        self.register_buffer("factors", factors.detach().clone())
        self.eval()

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """The number of codes at each of the P positions."""
        return tuple(self.model.cardinalities)

    @property
    def grid(self) -> tuple[int, int]:
        """The shape of the codes."""
        return grid_of(self.model)

    @property
    def variables(self) -> Mapping[Variable, AbstractUnivariate]:
        """Label to family, in the order of the columns."""
        columns = [
            (column, label, group.family)
            for group in leaf_groups(self.model)
            for column, label in zip(group.columns, group.labels, strict=True)
        ]
        return {label: family for _, label, family in sorted(columns, key=lambda entry: entry[0])}

    def likelihood(self, codes: Integer[Tensor, "N P"]) -> Mapping[Any, Any]:
        """The parameters of every variable given codes, by family and name."""
        check_codes(codes, self.cardinalities)
        groups, made = leaf_groups(self.model), likelihood_by_group(self.model, codes)
        return {
            group.family: {
                name: value * self.factors[list(group.columns)].to(value) if name == "scale" else value
                for name, value in parameters.items()
            }
            for group, parameters in zip(groups, made, strict=True)
        }


def calibrate(
    source: VQDecoder,
    codes: CodeSet,
    data: Float[Tensor, "B D"],
    *,
    weights: Weights = "prior",
    settings: FitSettings | None = None,
) -> CalibratedDecoder:
    """Fit a factor for the scale of each variable: arg max_f Σ_b log Σ_n w_n Π_v p(x_bv | loc_nv, f_v · scale_nv).

    A decoder's scales are fitted to each image under its own code. Under the nearest code of a set the image differs by
    more, and a decoder that does not know this is sure of what is wrong. The codes, their weights and the locations stay.

    **Arguments**

    - `source`: a model with a family that has a scale; it stays as it is.
    - `codes`: N codes, all decoded once.
    - `data`: rows of the distilled circuit's data, such as `vq_sources.metrics.observations` makes of training images.
    - `weights`: of the codes, as in `distil`.
    - `settings`: of the search by gradients; 20 epochs at a learning rate that falls from 0.05 unless given.

    **Raises** `ParameterError` for a source in which nothing has a scale; else as `distil` and `pcircuits.learning.fit`.

    **Example**

    >>> from vq_sources import VQVAE, IndependentPrior, VQVAEConfig, distil, selection
    >>> images = torch.randint(17, (40, 8, 8), generator=torch.Generator().manual_seed(0))
    >>> model = VQVAE(VQVAEConfig(num_codes=2, hidden=8), torch.Generator().manual_seed(0))
    >>> model.prepare((images,))
    >>> codes = selection.enumerate(IndependentPrior(model.grid, num_codes=2)).prefix(3)
    >>> x = (images.flatten(1) + 0.5) / 17
    >>> calibrated = calibrate(model, codes, x, settings=FitSettings(epochs=30, learning_rate=0.01))
    >>> before, after = (distil(m, codes, "prior").compile().log_prob(x).mean() for m in (model, calibrated))
    >>> bool(after > before)
    True
    """
    groups = leaf_groups(source)
    if not any("scale" in group.family.parameters for group in groups):
        raise ParameterError(
            f"{type(source).__name__} has variables of {', '.join(str(group.family) for group in groups)}, and none of these "
            "has a scale to calibrate"
        )
    with torch.no_grad():
        made = likelihood_by_group(source, codes.codes)
    sources = [_Scaled(parameters) for parameters in made]
    arrays: list[pc.Units] = [
        pc.inputs(group.family, group.labels, pc.Sourced(scaled, len(group.labels), len(codes)))
        for group, scaled in zip(groups, sources, strict=True)
    ]
    units, labels = in_column_order(groups, arrays)
    circuit = pc.Circuit(units.prod().sum(component_weights(codes, weights).frozen()), labels)
    model = circuit.compile(dtype=data.dtype, device=data.device)
    learning.fit(model, data, settings=settings or FitSettings(epochs=20, learning_rate=0.05, final_fraction=0.05))
    factors = torch.ones(len(labels), dtype=data.dtype)
    inputs = model.to_circuit().inputs
    for group in groups:
        trained = next(array for array in inputs if array.variables[0][0] == group.labels[0])
        assert isinstance(trained.parameters, pc.Sourced)
        scaled = trained.parameters.source
        assert isinstance(scaled, _Scaled)
        factors[list(group.columns)] = scaled.log_factors.detach().exp().flatten().to(factors)
    return CalibratedDecoder(source, factors)


class _Scaled(nn.Module):
    """Parameters of fixed codes, (N, D, *event) each, of which the scales have factors that are trained."""

    def __init__(self, made: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.names = tuple(made)
        for name, value in made.items():
            self.register_buffer(f"fixed_{name}", value.transpose(0, 1).contiguous())
        rows = next(iter(made.values())).shape[1]
        self.log_factors = nn.Parameter(torch.zeros(rows, 1), requires_grad="scale" in made)

    def parameters_for(self, columns: Int64[Tensor, " n"]) -> dict[str, Tensor]:
        """The parameters under some of the codes, each (D, n, *event)."""
        fixed = {name: getattr(self, f"fixed_{name}")[:, columns] for name in self.names}
        return {name: value * self.log_factors.exp() if name == "scale" else value for name, value in fixed.items()}
