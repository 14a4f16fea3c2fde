"""Composition: a VQ model with a local decoder and a circuit over its codes become one circuit over all codes."""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor

import pcircuits as pc
from pcircuits.circuit.substitution import substitute
from pcircuits.circuit.units import Input, Units, Wiring
from pcircuits.errors import ParameterError
from pcircuits.families import Categorical, Indicator
from pcircuits.families.finite import AbstractFinite
from pcircuits.parameters import Sourced
from vq_sources.distil import leaf_units
from vq_sources.priors import CircuitPrior
from vq_sources.protocols import LocalVQDecoder, leaf_groups, likelihood_by_group

__all__ = ["compose"]

_CHECKED_CODES = 4


def compose(source: LocalVQDecoder, prior: pc.Circuit | CircuitPrior, *, eager: bool = False) -> pc.Circuit:
    """The whole VQ model as a circuit, all of its codes at once: p(x) = Σ_z p(z) Π_i p(x_i | z_i).

    The sum over K^P codes is never written out. The prior is a circuit over codes, and below each of its units over code i
    goes the sum over the K codes of that position: u(z_i) becomes Σ_k u(k) p(x_i | z_i = k), by linearity the same as
    summing outside. So the cost is that of the prior and of P · K patches: O(P · K²) for a tree whose width is K, and
    nothing is lost, where a selection of N codes loses what it does not cover.

    **Arguments**

    - `source`: a VQ model whose decoder is local (see `vq_sources.protocols.LocalVQDecoder`), such as a `PatchVQVAE`.
    - `prior`: a circuit over P discrete variables; column i is the code of position i. Several roots, such as one for each
      class, become several roots. Its units are `Categorical`, `Indicator`, or others over finitely many states. Of a
      `CircuitPrior`, what it has learnt: with classes the marginal, one root, where `prior.to_circuit()` has one for each.
    - `eager`: decode once, and keep the parameters of every patch and code, which can then be trained freely; by default a
      copy of the decoder is their source, and trains as a whole.

    **Raises** `ParameterError` for a decoder that is not local, a prior over another number of variables, or with units
    that are not distributions of one code; and for a prior that gives probability to codes that do not exist.

    **Source** Latent variable distillation (arXiv 2210.04398) trains circuits towards such latent codes; here the codes'
    own decoder is kept.

    >>> from vq_sources import PatchVQVAE, PatchVQVAEConfig
    >>> model = PatchVQVAE(PatchVQVAEConfig(data_shape=(4, 4), grid=(2, 2), num_codes=3), torch.Generator().manual_seed(0))
    >>> model.prepare((torch.randint(17, (20, 4, 4), generator=torch.Generator().manual_seed(0)),))
    >>> prior = pc.Circuit(pc.Categorical(range(4), torch.full((4, 1, 3), 1 / 3)).prod())
    >>> circuit = compose(model, prior)  # 81 codes
    >>> len(circuit.variables), bool(circuit.check().normalised)
    (16, True)
    """
    if isinstance(prior, CircuitPrior):
        prior = prior.marginal_circuit()
    cardinalities, patches = tuple(source.cardinalities), tuple(map(tuple, source.patches))
    columns = sorted(column for patch in patches for column in patch)
    if len(patches) != len(cardinalities) or columns != list(range(len(columns))) or not all(patches):
        raise ParameterError(
            f"the source has {len(cardinalities)} positions and the patches {patches}: it needs a patch for each position, "
            "and each variable in one of them"
        )
    if len(prior.variables) != len(cardinalities):
        raise ParameterError(
            f"the prior is over {len(prior.variables)} variables, and the source has {len(cardinalities)} positions: the "
            "prior's column i is the code of position i"
        )
    _check_local(source, patches)
    units, labels = leaf_units(source, _constant_grids(cardinalities), eager, "compose")
    codes = _Codes(units.prod(patches), cardinalities, prior)
    return substitute(prior, codes.instead_of, labels)


def _constant_grids(cardinalities: tuple[int, ...]) -> Int64[Tensor, "K P"]:
    """Row k has code k at every position, or the last one where there are fewer: decoded, every patch under every code."""
    largest = torch.tensor(cardinalities) - 1
    return torch.minimum(torch.arange(max(cardinalities))[:, None], largest)


@torch.no_grad()
def _check_local(source: LocalVQDecoder, patches: tuple[tuple[int, ...], ...]) -> None:
    """Raise unless random grids decode to what the patches of constant grids say."""
    generator, sizes = torch.Generator().manual_seed(0), torch.tensor(source.cardinalities)
    codes = (torch.rand((_CHECKED_CODES, len(sizes)), generator=generator) * sizes).long()
    position_of = torch.empty(sum(map(len, patches)), dtype=torch.int64)
    for position, patch in enumerate(patches):
        position_of[list(patch)] = position
    wholes = likelihood_by_group(source, codes)
    constants = likelihood_by_group(source, _constant_grids(tuple(source.cardinalities)))
    for group, whole, constant in zip(leaf_groups(source), wholes, constants, strict=True):
        positions = position_of[list(group.columns)]
        for name, value in whole.items():
            place = torch.arange(len(positions), device=value.device)
            apart = constant[name][codes[:, positions].to(value.device), place]
            wrong = ~torch.isclose(value, apart, rtol=1e-4, atol=1e-5)
            if bool(wrong.any()):
                row, column = wrong.nonzero()[0, :2].tolist()
                raise ParameterError(
                    f"the decoder of {type(source).__name__} is not local: {name} of variable {group.labels[column]!r}, which "
                    f"is in the patch of position {int(positions[column])}, depends on the codes of other positions, as in "
                    f"{codes[row].tolist()}. A decoder that mixes positions can be distilled (vq_sources.distil), not composed"
                )


class _Codes:
    """Patches under every code, (P, K), in the place of a prior's units over codes."""

    def __init__(self, patches: Units, cardinalities: tuple[int, ...], prior: pc.Circuit) -> None:
        self.patches, self.cardinalities = patches, cardinalities
        self.position_of = {label: i for i, label in enumerate(prior.variables)}
        self._shared: dict[int, pc.Parameter] = {}

    def instead_of(self, array: Input) -> Units:
        """Units (R, K') over the patches of the codes that an array of input units is over."""
        family, parameters = array.family, array.parameters
        if isinstance(parameters, Sourced) or not isinstance(family, AbstractFinite | Indicator):
            raise ParameterError(
                f"the prior has {array!r} of {family}{' from a source' if isinstance(parameters, Sourced) else ''}: units over "
                "codes are Categorical, Indicator, or of another family over finitely many states, and hold their parameters"
            )
        # Regions that the root makes no use of may be over any variable: what becomes of them does not matter.
        positions = [self.position_of.get(label, 0) for (label,) in array.variables]
        matters = [label in self.position_of for (label,) in array.variables]
        if isinstance(family, Indicator):
            state = parameters["state"].value.expand(array.shape).long()
            self._check_codes(state + 1, positions, matters)
            region = torch.tensor(positions)[:, None].expand(array.shape).numpy()
            return Wiring((self.patches,), region * 0, region, state.clamp(max=self.patches.width - 1).numpy())
        log = family.log_table({name: parameter.value.double() for name, parameter in parameters.items()})
        states = torch.arange(1, family.states + 1)
        largest = torch.where(log > -torch.inf, states, 0).amax(-1).expand(array.shape)
        self._check_codes(largest, positions, matters)
        units = self.patches if positions == list(range(self.patches.regions)) else self.patches[positions]
        return units.sum(self._weights(array, log))

    def _check_codes(self, needed: Tensor, positions: list[int], matters: list[bool]) -> None:
        """Raise where units (R, K') need more codes than their position has."""
        for number, position, used in zip(needed.amax(1).tolist(), positions, matters, strict=True):
            size = self.cardinalities[position]
            if used and number > size:
                raise ParameterError(
                    f"the prior gives probability to code {number - 1} of position {position}, and the source has the codes "
                    f"0..{size - 1} there"
                )

    def _weights(self, array: Input, log: Tensor) -> pc.Parameter:
        """The units' probabilities as weights of sums over codes; those of a `Categorical` stay what they are, tied too."""
        assert not isinstance(array.parameters, Sourced)
        width = self.patches.width
        (first, *_) = array.parameters.values()
        if isinstance(array.family, Categorical) and array.family.states == width:
            if len(first.shape) < 3 or first.shape[0] == array.regions:
                return first
            if id(first) not in self._shared:  # one table for all regions, (1, K', K)
                self._shared[id(first)] = first.selected(lambda value: value[0])
            return self._shared[id(first)]
        padded = torch.nn.functional.pad(log[..., :width], (0, width - min(width, log.shape[-1])), value=-torch.inf)
        return pc.Parameter.from_log(
            padded.expand(*array.shape, width).contiguous(),
            pc.simplex,
            trainable=all(parameter.trainable for parameter in array.parameters.values()),
            name="the probabilities of codes",
        )
