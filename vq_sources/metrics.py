"""What a distilled model is judged by: bits per dimension, inpaintings, covered mass, and sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

import pcircuits as pc
from pcircuits.queries.compiled import Queries
from pcircuits.scope import REAL
from vq_sources.data.pixels import dequantise, scale
from vq_sources.errors import DataError
from vq_sources.protocols import check_images, check_integers, check_tensor

__all__ = [
    "Inpainting",
    "Sizes",
    "bin_bounds",
    "continuous_bpd",
    "counts_pixels",
    "discrete_bpd",
    "inpaint",
    "observations",
    "sizes",
]


def observations(
    circuit: pc.Circuit, images: Int64[Tensor, "B H W"], levels: int, seed: int = 0
) -> Float[Tensor, "B D"]:
    """Images as rows of the circuit's data: pixels for leaves over integers, (pixel + u) / L with seeded u for densities.

    **Arguments**

    - `images`: (B, H, W) int64 in 0..L-1.
    - `levels`: L.
    - `seed`: of u ~ U[0, 1).

    **Raises** `DataError` for images of another type, or of values outside of 0..L-1.

    >>> circuit = pc.Circuit(pc.Normal(range(4), 0.5, 1.0).prod())
    >>> x = observations(circuit, torch.tensor([[[0, 1], [2, 3]]]), levels=4)
    >>> (x * 4).floor().tolist()
    [[0.0, 1.0, 2.0, 3.0]]
    """
    _check(images, levels)
    flat = images.flatten(1)
    if counts_pixels(circuit):
        return flat.to(torch.get_default_dtype())
    return dequantise(flat, levels, torch.Generator().manual_seed(seed))


def continuous_bpd(
    model: pc.CompiledCircuit, images: Int64[Tensor, "B H W"], levels: int, seed: int = 0
) -> float | None:
    """−log2 p((x + u) / L) / D + log2 L, averaged over images; None for leaves over integers, which have no density.

    u ~ U[0, 1) is seeded and the same for every model. In expectation it upper-bounds the discrete one.

    **Arguments**

    - `images`: (B, H, W) int64 in 0..L-1.
    - `levels`: L.
    - `seed`: of u.

    **Raises** `DataError` without images, and as `observations` does; `EvidenceError` for images of another size.

    Theis, van den Oord and Bethge (2016), *A note on the evaluation of generative models*, §3.1.

    >>> wide = pc.Circuit(pc.Normal(range(4), 0.5, 1e3).prod()).compile(dtype=torch.float64)
    >>> round(continuous_bpd(wide, torch.zeros(1, 2, 2, dtype=torch.int64), levels=4), 3)  # log2(4 · 1000 · √2π)
    13.292
    """
    if counts_pixels(model.circuit):
        return None
    with torch.no_grad():
        log_prob = model.log_prob(observations(model.circuit, images, levels, seed))
    return _bits(log_prob, images) + math.log2(levels)


def discrete_bpd(model: pc.CompiledCircuit, images: Int64[Tensor, "B H W"], levels: int) -> float:
    """−log2 P(x) / D, averaged over images: the probability of the integers, for densities that of their bins.

    **Arguments**

    - `images`: (B, H, W) int64 in 0..L-1.
    - `levels`: L.

    **Raises** `DataError` without images, and as `observations` does; `EvidenceError` for images of another size.

    >>> fair = pc.Circuit(pc.Categorical(range(4), torch.full((4, 1, 8), 1 / 8)).prod()).compile()
    >>> round(discrete_bpd(fair, torch.zeros(1, 2, 2, dtype=torch.int64), levels=8), 6)
    3.0
    """
    with torch.no_grad():
        if counts_pixels(model.circuit):
            return _bits(model.log_prob(observations(model.circuit, images, levels)), images)
        _check(images, levels)
        lower, upper = bin_bounds(images.flatten(1), levels)
        nothing = torch.full((1, len(model.circuit.variables)), torch.nan)
        return _bits(
            model.log_probability(lower, upper) + model.log_prob(nothing), images
        )  # log_probability divides by it


def bin_bounds(pixels: Int64[Tensor, "B D"], levels: int) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
    """The ends of the bins [v, v + 1) / L; those of the edge bins are infinite.

    >>> lower, upper = bin_bounds(torch.tensor([[0, 1, 3]]), levels=4)
    >>> lower.tolist(), upper.tolist()
    ([[-inf, 0.25, 0.75]], [[0.25, 0.5, inf]])
    """
    check_integers(pixels, "pixels", "bins are those of integers")
    lower, upper = pixels.double() / levels, (pixels.double() + 1) / levels
    return lower.masked_fill(pixels == 0, -torch.inf), upper.masked_fill(pixels == levels - 1, torch.inf)


def _bits(log_prob: Tensor, images: Tensor) -> float:
    _require_some(images)
    return -float(log_prob.double().mean()) / math.log(2) / images[0].numel()


def _check(images: Tensor, levels: int) -> None:
    check_tensor(images, "images")
    if images.ndim != 3:
        raise DataError(f"images must have shape (B, H, W), not {tuple(images.shape)}")
    height, width = images.shape[1:]
    check_images(images, (height, width), levels)


def _require_some(images: Tensor) -> None:
    if len(images) == 0:
        raise DataError("there are no images to average over: give at least one")


def counts_pixels(circuit: pc.Circuit) -> bool:
    """Whether the variables of a circuit are pixels as integers, and not points of their bins.

    **Raises** `DataError` where some are the one and some the other: images are rows of one kind.

    >>> counts_pixels(pc.Circuit(pc.Normal(range(4), 0.5, 1.0).prod()))
    False
    """
    integers = [states != REAL for states in circuit.states]
    if any(integers) and not all(integers):
        whole, real = circuit.variables[integers.index(True)], circuit.variables[integers.index(False)]
        raise DataError(
            f"the circuit's variable {whole!r} is an integer and {real!r} a real number: images have pixels of one kind"
        )
    return integers[0]


@dataclass(frozen=True)
class Inpainting:
    """Images of which a part was hidden, and what the circuit says of it; all in [0, 1] units, (B, H, W).

    `visible` is (H, W), or (B, H, W) where each image has a mask of its own; `samples` is (n, B, H, W). `psnr` is of the
    conditional mean on hidden pixels, in decibels; `conditional_bits` is −log2 p(hidden | visible) for each hidden pixel,
    discrete or continuous as the circuit's leaves are.
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
    visible: Bool[Tensor, "*B H W"],
    levels: int,
    samples: int = 3,
    generator: torch.Generator | None = None,
    seed: int = 0,
) -> Inpainting:
    """Exact conditional means and samples of hidden pixels given the visible ones.

    **Arguments**

    - `images`: (B, H, W) int64 in 0..L-1.
    - `visible`: (H, W), True where a pixel is seen, or (B, H, W) with a mask for each image; numbers 0 and 1 are taken
      for False and True.
    - `levels`: L.
    - `samples`: how many to draw for each image.
    - `generator`: where they come from; None is torch's own.
    - `seed`: of the u that dequantises pixels for a density, as in `continuous_bpd`.

    **Raises** `DataError` for masks of another shape or of other values, where nothing, or everything, is hidden in an
    image, and without images.

    >>> fair = pc.Circuit(pc.Categorical(range(2), torch.full((2, 1, 4), 1 / 4)).prod()).compile()
    >>> round(inpaint(fair, torch.tensor([[[3, 0]]]), torch.tensor([[True, False]]), levels=4).conditional_bits, 6)
    2.0
    """
    _check(images, levels)
    _require_some(images)
    visible = _mask(visible, images)
    each = visible.expand(images.shape)
    circuit = model.circuit
    x = observations(circuit, images, levels, seed)
    given = model.given((x, each.flatten(1)))
    mean, drawn = given.mean(), given.sample(samples, generator)
    bits_each = 0.0 - float(given.log_prob(x).detach().double().sum()) / math.log(2) / int((~each).sum())
    if counts_pixels(circuit):
        mean, drawn = ((value + 0.5) / levels for value in (mean, drawn))
    else:
        bits_each += math.log2(levels)
    original = scale(images, levels)
    mean = torch.where(visible, original, mean.view(images.shape).to(original))
    error = ((mean - original)[~each] ** 2).double().mean()
    drawn = torch.where(visible, original, drawn.view(samples, *images.shape).to(original))
    psnr = -10 * math.log10(max(float(error), 1e-300))
    return Inpainting(original, visible, mean, drawn, psnr, bits_each)


def _mask(visible: object, images: Tensor) -> Bool[Tensor, "*B H W"]:
    """A mask (H, W), or (B, H, W) for each image, where the images are; each has visible and hidden pixels."""
    wanted = tuple(images.shape[1:])
    if not isinstance(visible, Tensor):
        raise DataError(
            f"a mask of visible pixels is a bool tensor, not {type(visible).__name__}: torch.as_tensor(...) makes one"
        )
    if visible.shape == (1, *wanted):
        visible = visible[0]
    if tuple(visible.shape) not in (wanted, tuple(images.shape)):
        raise DataError(
            f"a mask has the shape (H, W) = {wanted} of the images, or {tuple(images.shape)} with one for each, and not "
            f"{tuple(visible.shape)}"
        )
    mask = visible == 1
    if not bool((mask | (visible == 0)).all()):
        raise DataError(
            f"a mask is True, or 1, where a pixel is visible, and else False: this one of {visible.dtype} is not"
        )
    seen = mask.flatten(-2).sum(-1)
    bad = (seen == 0) | (seen == wanted[0] * wanted[1])
    if bool(bad.any()):
        where = f", and the mask of image {int(bad.nonzero()[0])} has not" if bad.ndim else ""
        raise DataError(f"an inpainting needs both visible and hidden pixels{where}")
    return mask.to(images.device)


@dataclass(frozen=True)
class Sizes:
    """Numbers of parameters, which are three different things: the circuit's, the teacher's, and the prior's."""

    circuit: int
    teacher: int
    prior: int


def sizes(circuit: pc.Circuit, teacher: nn.Module, prior: nn.Module) -> Sizes:
    """The sizes of a distilled model; those of a circuit with a source count what the source makes.

    >>> sizes(pc.Circuit(pc.Normal(0, 0.0, 1.0)), nn.Linear(2, 3), nn.Linear(1, 1))
    Sizes(circuit=2, teacher=9, prior=2)
    """
    counts = circuit.summary()
    return Sizes(counts.parameters + counts.sourced_parameters, _numbers(teacher), _numbers(prior))


def _numbers(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
