"""Continuous mixtures: a latent variable with a standard normal density, integrated over at points of a lattice."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pcircuits.circuit.circuit import Circuit
from pcircuits.errors import CircuitError
from pcircuits.families.fields import integer
from pcircuits.parameters import Parameter, simplex
from pcircuits.queries.compiled import CompiledCircuit
from pcircuits.structures.decoders import AbstractDecoder, Decoded, FactorisedDecoder, TreeDecoder
from pcircuits.structures.latents import FreePoints, SobolPoints

__all__ = ["continuous_mixture", "decoder_of", "free_points", "shifted_lattice"]

KNOWN: dict[str, Any] = {cls.__qualname__: cls for cls in (FactorisedDecoder, TreeDecoder, FreePoints, SobolPoints)}


def continuous_mixture(decoder: AbstractDecoder, points: int | nn.Module) -> Circuit:
    """The mixture of what a decoder makes of N points of its latent space: p(x) = 1/N Σ_n p(x | z_n).

    With the points of a lattice this is the integral ∫ p(x | z) N(z; 0, 1) dz by quasi-Monte Carlo, and more points of it
    are another circuit of the same decoder: train on few with `shifted_lattice`, which draws a new shift for each step,
    and evaluate on many, `continuous_mixture(decoder_of(model), 8192)`. With `free_points` the points themselves are
    trained. The circuit is an ordinary one; `pcircuits.materialise` leaves nothing of the network.

    **Arguments**

    - `decoder`: `FactorisedDecoder` or `TreeDecoder`, or another member; it is copied.
    - `points`: N, for a lattice of `SobolPoints`; or a module that makes (N, L) points, such as `FreePoints`; copied too.

    **Raises** `CircuitError` for points of another length than the decoder's.

    Correia, Gala, Quaeghebeur, de Campos and Peharz (2023), *Continuous Mixtures of Tractable Probabilistic Models*,
    equation 4.

    >>> from pcircuits import families
    >>> decoder = FactorisedDecoder(range(3), families.Bernoulli(), latents=2, hidden=(8,))
    >>> continuous_mixture(decoder, 16).summary().sourced_parameters
    48
    """
    points = SobolPoints(integer(points, "points", least=1), decoder.latents) if isinstance(points, int) else points
    with torch.no_grad():
        made: Tensor = points()
    if made.ndim != 2 or made.shape[1] != decoder.latents:
        raise CircuitError(
            f"the points have shape {tuple(made.shape)}, and the decoder needs (N, {decoder.latents}) of them"
        )
    decoder, points = copy.deepcopy((decoder, points))  # a circuit never changes
    decoder.to(made.dtype)
    units = decoder.units(points, len(made))
    even = torch.full((len(made),), 1.0 / len(made), dtype=torch.float64)
    weights = Parameter(even, simplex, trainable=False, name="the weights of the points")
    return Circuit(units.sum(weights), decoder.variables)


def decoder_of(mixture: Circuit | CompiledCircuit) -> AbstractDecoder:
    """The decoder of a continuous mixture; of a model, with what it has learnt.

    **Raises** `CircuitError` for a circuit that is none.

    >>> from pcircuits import families
    >>> decoder = FactorisedDecoder(range(3), families.Bernoulli(), latents=2, hidden=(8,))
    >>> decoder_of(continuous_mixture(decoder, 16).compile()).latents
    2
    """
    return _decoded(mixture).decoder


def free_points(mixture: Circuit | CompiledCircuit) -> Circuit:
    """The same mixture with points that are trained, and a decoder that is not: latent optimisation.

    Points that no longer stand for an integral have another meaning: the mixture is one of N components, as it stands.

    **Raises** `CircuitError` for a circuit that is no continuous mixture.

    Correia et al. (2023), *Continuous Mixtures of Tractable Probabilistic Models*, §4.

    >>> from pcircuits import families
    >>> decoder = FactorisedDecoder(range(3), families.Bernoulli(), latents=2, hidden=(8,))
    >>> model = free_points(continuous_mixture(decoder, 16)).compile()
    >>> [tuple(p.shape) for p in model.parameters() if p.requires_grad]
    [(16, 2)]
    """
    source = _decoded(mixture)
    decoder = copy.deepcopy(source.decoder).requires_grad_(False)
    with torch.no_grad():
        return continuous_mixture(decoder, FreePoints(source.points()))


def _decoded(mixture: Circuit | CompiledCircuit) -> Decoded:
    circuit = mixture.to_circuit() if isinstance(mixture, CompiledCircuit) else mixture
    for sourced in circuit.sourced():
        if isinstance(sourced.source, Decoded):
            return sourced.source
    raise CircuitError(f"{circuit!r} is no continuous mixture: structures.continuous_mixture makes them")


def shifted_lattice(model: CompiledCircuit, batch: Tensor) -> tuple[Tensor, Mapping[str, float]]:
    """The loss of maximum likelihood for `learning.fit`, on a lattice that is shifted anew for every step of training.

    A decoder that is trained on the same few points over and over learns what to make of them and of nothing between, and more
    points make the likelihood worse. With new shifts it learns a function of z, and every lattice is good. Where the
    mixture stays on its lattice the plain likelihood, which `fit` takes by itself, is better. In evaluation the lattice is
    not shifted, so that losses of epochs are comparable.

    >>> from pcircuits import families
    >>> from pcircuits.learning import FitSettings, fit
    >>> generator = torch.Generator().manual_seed(0)
    >>> decoder = FactorisedDecoder(range(2), families.Bernoulli(), latents=1, hidden=(8,), generator=generator)
    >>> model, x = continuous_mixture(decoder, 8).compile(), torch.tensor([[0.0, 0.0], [1.0, 1.0]]).repeat(20, 1)
    >>> history = fit(model, x, settings=FitSettings(epochs=30, learning_rate=0.02), loss=shifted_lattice)
    >>> bool(model.log_prob(x).mean() > -0.9), round(2 * torch.tensor(0.5).log().item(), 2)
    (True, -1.39)
    """
    lattices = [module for module in model.modules() if isinstance(module, SobolPoints)]
    shift = torch.rand_like(lattices[0].shift) if lattices and model.training else None
    for lattice in lattices:
        lattice.shift_by(shift)
    return -model.log_prob(batch).mean(), {}
