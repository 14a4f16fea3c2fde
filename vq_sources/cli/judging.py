"""What a circuit is judged by on images, and pictures of what it can do."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

import pcircuits as pc
from vq_sources.data import EncodedSplit, Split
from vq_sources.data.pixels import dequantise, scale
from vq_sources.metrics import Inpainting, continuous_bpd, counts_pixels, discrete_bpd, inpaint
from vq_sources.priors import AutoregressivePrior
from vq_sources.protocols import ImageVQDecoder
from vq_sources.report import picture_inpainting

__all__ = [
    "DTYPE",
    "Hidden",
    "drawn_images",
    "evaluated",
    "inpainting_facts",
    "inpainting_picture",
    "own_code_facts",
    "visible_part",
]

DTYPE = torch.float64
"""Of everything that is reported."""
CONDITIONAL_SAMPLES = 3
_CHUNK = 1000


class Hidden(StrEnum):
    """The part of an image that is hidden."""

    bottom = "bottom"
    top = "top"
    left = "left"
    right = "right"
    centre = "centre"


def visible_part(shape: tuple[int, int], hidden: Hidden) -> Bool[Tensor, "H W"]:
    """Which pixels are visible; the hidden half is the larger one where a side is odd.

    >>> visible_part((4, 2), Hidden.bottom).long().tolist()
    [[1, 1], [1, 1], [0, 0], [0, 0]]
    """
    height, width = shape
    visible = torch.ones(shape, dtype=torch.bool)
    rows = {Hidden.bottom: (height // 2, height), Hidden.top: (0, height - height // 2)}
    columns = {Hidden.left: (0, width - width // 2), Hidden.right: (width // 2, width)}
    if hidden is Hidden.centre:
        top, left = height // 4, width // 4
        visible[top : height - top, left : width - left] = False
        return visible
    visible[slice(*rows.get(hidden, (0, height))), slice(*columns.get(hidden, (0, width)))] = False
    return visible


@torch.no_grad()
def evaluated(
    circuit: pc.Circuit, images: Int64[Tensor, "B H W"], levels: int, device: str, seed: int
) -> dict[str, Any]:
    """Both bits per dimension of a circuit on images."""
    model = circuit.compile(dtype=DTYPE, device=device)
    return {
        "continuous_bpd": continuous_bpd(model, images, levels, seed),
        "discrete_bpd": discrete_bpd(model, images, levels),
    }


@torch.no_grad()
def drawn_images(
    circuit: pc.Circuit, count: int, shape: tuple[int, int], device: str, seed: int, root: int = 0
) -> Float[Tensor, "n H W"]:
    """Samples of a circuit as images in [0, 1] units, from one of its roots."""
    counting = counts_pixels(circuit)
    model = circuit.compile(dtype=DTYPE, device=device)
    drawn = model.root(root).sample(count, generator=torch.Generator().manual_seed(seed)).reshape(count, *shape)
    states = circuit.inputs[0].family.states
    return scale(drawn.long().cpu(), states) if counting and states is not None else drawn.cpu()


@torch.no_grad()
def inpainting_facts(
    circuit: pc.Circuit, images: Int64[Tensor, "B H W"], levels: int, hidden: Hidden, device: str, seed: int
) -> dict[str, Any]:
    """How well the hidden part of images is told from the rest."""
    shown = _inpainted(circuit, images, levels, hidden, device, 1, seed)
    return {
        "hidden": hidden.value,
        "images": len(images),
        "psnr": shown.psnr,
        "conditional_bits_per_hidden_pixel": shown.conditional_bits,
        "continuous": not counts_pixels(circuit),
    }


def inpainting_picture(
    circuit: pc.Circuit,
    images: Int64[Tensor, "B H W"],
    levels: int,
    hidden: Hidden,
    path: Path,
    title: str,
    device: str,
    seed: int,
) -> None:
    """Draw inpaintings of a few images."""
    picture_inpainting(_inpainted(circuit, images, levels, hidden, device, CONDITIONAL_SAMPLES, seed), path, title)


@torch.no_grad()
def _inpainted(
    circuit: pc.Circuit,
    images: Int64[Tensor, "B H W"],
    levels: int,
    hidden: Hidden,
    device: str,
    samples: int,
    seed: int,
) -> Inpainting:
    model = circuit.compile(dtype=DTYPE, device=device)
    shape = (images.shape[1], images.shape[2])
    generator = torch.Generator().manual_seed(seed)
    return inpaint(model, images, visible_part(shape, hidden), levels, samples, generator, seed)


@torch.no_grad()
def own_code_facts(
    teacher: ImageVQDecoder, prior: AutoregressivePrior, images: Split, codes: EncodedSplit, seed: int
) -> dict[str, float]:
    """What images cost under the one code that the encoder gives them, in bits per dimension.

    `pixels` is −log2 p(x | z) / D of the density (plus log2 L) or of the integers, as the teacher's family is; `codes`
    is −log2 p(z) / D. Their sum bounds the exact model's bits per dimension of the same kind from above.

    **Arguments**

    - `prior`: without classes, p(z).
    - `seed`: of the dequantisation, as everywhere.
    """
    pixels = images.images.flatten(1)
    density = teacher.family.base == "lebesgue"
    x = dequantise(pixels, teacher.levels, torch.Generator().manual_seed(seed)) if density else pixels
    x = x.to(DTYPE)
    total = 0.0
    for rows, own in zip(torch.split(x, _CHUNK), torch.split(codes.codes, _CHUNK), strict=True):
        parameters = {name: value.to(DTYPE).cpu() for name, value in teacher.likelihood(own.to(prior.device)).items()}
        total -= float(teacher.family.log_density(rows, parameters).sum())
    dimensions = pixels.shape[1] * math.log(2)
    of_pixels = total / len(x) / dimensions + (math.log2(teacher.levels) if density else 0.0)
    of_codes = -float(prior.log_prob(codes.codes).mean()) / dimensions
    return {"pixels": of_pixels, "codes": of_codes, "sum": of_pixels + of_codes}
