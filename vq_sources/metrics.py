"""What a distilled model is judged by: bits per dimension, inpaintings, covered mass, and sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

import pcircuits as pc
from pcircuits.queries.compiled import Queries
from vq_sources.data.pixels import dequantise, scale
from vq_sources.errors import DataError

__all__ = ["Inpainting", "Sizes", "bin_bounds", "continuous_bpd", "discrete_bpd", "inpaint", "observations", "sizes"]


def observations(
    circuit: pc.Circuit, images: Int64[Tensor, "B H W"], levels: int, seed: int = 0
) -> Float[Tensor, "B D"]:
    """Images as rows of the circuit's data: pixels for leaves over integers, (pixel + u) / L with seeded u for densities."""
    flat = images.flatten(1)
    if _counts(circuit):
        return flat.to(torch.get_default_dtype())
    return dequantise(flat, levels, torch.Generator().manual_seed(seed))


def continuous_bpd(
    model: pc.CompiledCircuit, images: Int64[Tensor, "B H W"], levels: int, seed: int = 0
) -> float | None:
    """−log2 p((x + u) / L) / D + log2 L, averaged over images; None for leaves over integers, which have no density.

    u ~ U[0, 1) is seeded and the same for every model. In expectation it upper-bounds the discrete one.
    """
    if _counts(model.circuit):
        return None
    with torch.no_grad():
        log_prob = model.log_prob(observations(model.circuit, images, levels, seed))
    return _bits(log_prob, images) + math.log2(levels)


def discrete_bpd(model: pc.CompiledCircuit, images: Int64[Tensor, "B H W"], levels: int) -> float:
    """−log2 P(x) / D, averaged over images: the probability of the integers, for densities that of their bins."""
    with torch.no_grad():
        if _counts(model.circuit):
            return _bits(model.log_prob(observations(model.circuit, images, levels)), images)
        lower, upper = bin_bounds(images.flatten(1), levels)
        nothing = torch.full((1, images[0].numel()), torch.nan)
        return _bits(
            model.log_probability(lower, upper) + model.log_prob(nothing), images
        )  # log_probability divides by it


def bin_bounds(pixels: Int64[Tensor, "B D"], levels: int) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
    """The ends of the bins [v, v + 1) / L; those of the edge bins are infinite."""
    lower, upper = pixels.double() / levels, (pixels.double() + 1) / levels
    return lower.masked_fill(pixels == 0, -torch.inf), upper.masked_fill(pixels == levels - 1, torch.inf)


def _bits(log_prob: Tensor, images: Tensor) -> float:
    return -float(log_prob.double().mean()) / math.log(2) / images[0].numel()


def _counts(circuit: pc.Circuit) -> bool:
    return circuit.inputs[0].family.base == "counting"


@dataclass(frozen=True)
class Inpainting:
    """Images of which a part was hidden, and what the circuit says of it; all in [0, 1] units, (B, H, W).

    `samples` is (n, B, H, W); `psnr` is of the conditional mean on hidden pixels, in decibels; `conditional_bits` is
    −log2 p(hidden | visible) for each hidden pixel, discrete or continuous as the circuit's leaves are.
    """

    original: Tensor
    visible: Tensor
    mean: Tensor
    samples: Tensor
    psnr: float
    conditional_bits: float


def inpaint(
    model: Queries,
    images: Int64[Tensor, "B H W"],
    visible: Bool[Tensor, "H W"],
    levels: int,
    samples: int = 3,
    generator: torch.Generator | None = None,
) -> Inpainting:
    """Exact conditional means and samples of hidden pixels given the visible ones.

    **Raises** `DataError` where nothing, or everything, is hidden.
    """
    if not 0 < int(visible.sum()) < visible.numel():
        raise DataError("an inpainting needs both visible and hidden pixels")
    circuit = model.circuit
    x = observations(circuit, images, levels)
    mask = visible.flatten().expand(len(x), -1)
    given = model.given((x, mask))
    mean, drawn = given.mean(), given.sample(samples, generator)
    bits = -given.log_prob(x).detach() / math.log(2) / int((~visible).sum())
    if _counts(circuit):
        mean, drawn = ((value + 0.5) / levels for value in (mean, drawn))
        bits_each = float(bits.double().mean())
    else:
        bits_each = float(bits.double().mean()) + math.log2(levels)
    original = scale(images, levels)
    mean = torch.where(visible, original, mean.view(images.shape).to(original.dtype))
    error = ((mean - original)[:, ~visible] ** 2).double().mean()
    drawn = torch.where(visible, original, drawn.view(samples, *images.shape).to(original.dtype))
    psnr = -10 * math.log10(max(float(error), 1e-300))
    return Inpainting(original, visible, mean, drawn, psnr, bits_each)


@dataclass(frozen=True)
class Sizes:
    """Numbers of parameters, which are three different things: the circuit's, the teacher's, and the prior's."""

    circuit: int
    teacher: int
    prior: int


def sizes(circuit: pc.Circuit, teacher: nn.Module, prior: nn.Module) -> Sizes:
    """The sizes of a distilled model; those of a circuit with a source count what the source makes."""
    counts = circuit.summary()
    return Sizes(counts.parameters + counts.sourced_parameters, _numbers(teacher), _numbers(prior))


def _numbers(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
