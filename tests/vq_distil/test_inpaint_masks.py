"""What is visible is said by masks of any kind that can mean it; others are refused. Answers by torch.distributions."""

import math

import numpy as np
import pytest
import torch

import pcircuits as pc
import vq_sources as vq
from vq_sources.errors import DataError

LEVELS = 8
WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
VISIBLE = torch.tensor([[True, True, False], [False, True, True]])


def model():
    generator = torch.Generator().manual_seed(0)
    loc, scale = torch.rand(6, 3, generator=generator), 0.1 + torch.rand(6, 3, generator=generator)
    circuit = pc.Circuit(pc.mixture(WEIGHTS, pc.Normal(range(6), loc, scale).prod()))
    return circuit.compile(dtype=torch.float64), torch.distributions.Normal(loc.double(), scale.double())


def images():
    return torch.randint(LEVELS, (4, 2, 3), generator=torch.Generator().manual_seed(1))


def wanted(circuit, units, masks):
    """(bits, PSNR) for masks (B, D), one image at a time."""
    x = vq.metrics.observations(circuit, images(), LEVELS).double()
    middle = (images().flatten(1).double() + 0.5) / LEVELS
    bits, squares = 0.0, []
    for row, mask, true in zip(x, masks, middle, strict=True):
        logs = units.log_prob(row[:, None])
        seen = WEIGHTS.log() + logs[mask].sum(0)
        bits -= float((WEIGHTS.log() + logs.sum(0)).logsumexp(0) - seen.logsumexp(0))
        squares += list((units.loc @ seen.softmax(0) - true)[~mask] ** 2)
    hidden = int((~masks).sum())
    return bits / math.log(2) / hidden + math.log2(LEVELS), -10 * math.log10(float(sum(squares)) / hidden)


def found(compiled, mask):
    result = vq.metrics.inpaint(compiled, images(), mask, LEVELS, generator=torch.Generator().manual_seed(0))
    return result.conditional_bits, result.psnr


@pytest.mark.errors
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32, torch.bfloat16])
def test_zeros_and_ones_of_any_dtype_are_a_mask(dtype):
    compiled, units = model()
    right = wanted(compiled.circuit, units, VISIBLE.flatten().expand(4, 6))
    for mask in (VISIBLE, VISIBLE[None], VISIBLE.expand(4, 2, 3), VISIBLE.T.contiguous().T):
        assert found(compiled, mask.to(dtype)) == pytest.approx(right, rel=1e-6)


@pytest.mark.errors
def test_each_image_may_have_a_mask_of_its_own(tmp_path):
    compiled, units = model()
    masks = torch.rand(4, 2, 3, generator=torch.Generator().manual_seed(2)) < 0.5
    masks[:, 0, 0], masks[:, 1, 2] = True, False
    assert len(masks.flatten(1).sum(1).unique()) > 1
    assert found(compiled, masks) == pytest.approx(wanted(compiled.circuit, units, masks.flatten(1)), rel=1e-6)
    result = vq.metrics.inpaint(compiled, images(), masks, LEVELS, 2, torch.Generator().manual_seed(0))
    assert torch.equal(result.samples[1][masks], result.original[masks])
    from vq_sources.report import picture_inpainting

    picture_inpainting(result, tmp_path / "shown.png", "masks of their own")
    assert (tmp_path / "shown.png").stat().st_size > 0


@pytest.mark.errors
@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (VISIBLE.T, r"shape \(H, W\) = \(2, 3\) of the images, .* not \(3, 2\)"),
        (VISIBLE.flatten(), r"not \(6,\)"),
        (VISIBLE.expand(3, 2, 3), r"\(4, 2, 3\) with one for each, and not \(3, 2, 3\)"),
        (VISIBLE.numpy(), "bool tensor, not ndarray"),
        (VISIBLE.tolist(), "bool tensor, not list"),
        (255 * VISIBLE.to(torch.uint8), "this one of torch.uint8 is not"),
        (torch.where(VISIBLE, 1.0, torch.nan), "this one of torch.float32 is not"),
        (torch.ones(2, 3), "both visible and hidden"),
        (torch.stack([VISIBLE, VISIBLE, torch.ones_like(VISIBLE), VISIBLE]), "the mask of image 2 has not"),
    ],
    ids=["transposed", "flat", "other images", "numpy", "list", "255", "nan", "all", "all of one"],
)
def test_other_masks_are_refused(mask, said):
    with pytest.raises(DataError, match=said):
        found(model()[0], mask)


@pytest.mark.errors
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (np.zeros((4, 2, 3), dtype=np.int64), "a tensor of integers, not ndarray"),
        (torch.zeros(4, 2, 3), "must be integers, not torch.float32"),
        (torch.zeros(4, 2, 3, dtype=torch.half), "must be integers, not torch.float16"),
        (torch.zeros(4, 2, 3, dtype=torch.complex64), "must be integers, not torch.complex64"),
        (torch.zeros(2, 3, dtype=torch.int64), r"shape \(B, H, W\), not \(2, 3\)"),
        (torch.zeros(4, 1, 2, 3, dtype=torch.int64), r"shape \(B, H, W\), not \(4, 1, 2, 3\)"),
    ],
    ids=["numpy", "float", "half", "complex", "one image", "channels"],
)
def test_images_of_other_kinds_are_refused_by_every_metric(wrong, said):
    compiled, _ = model()
    for ask in (
        lambda: vq.metrics.inpaint(compiled, wrong, VISIBLE, LEVELS),
        lambda: vq.metrics.discrete_bpd(compiled, wrong, LEVELS),
        lambda: vq.metrics.continuous_bpd(compiled, wrong, LEVELS),
        lambda: vq.metrics.observations(compiled.circuit, wrong, LEVELS),
    ):
        with pytest.raises(DataError, match=said):
            ask()
