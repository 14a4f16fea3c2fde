"""The VQ-VAE against the suite for VQ models; a small model of its own; and ones that are broken on purpose."""

import pytest
import torch
from torch import nn

import pcircuits as pc
import vq_sources as vq
from vq_sources.testing import check_vq_source

SHAPE, LEVELS = (4, 6), 5


def images(n):
    return torch.randint(LEVELS, (n, *SHAPE), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", [pc.families.Normal(), pc.families.DiscretizedLogistic(LEVELS)], ids=str)
def test_the_vqvae_conforms(family):
    config = vq.VQVAEConfig(
        data_shape=SHAPE, levels=LEVELS, grid=(2, 3), num_codes=3, hidden=8, hidden_at_image=4, codebook_dim=4,
        family=family, min_std=0.1,
    )  # fmt: skip
    model = vq.VQVAE(config, torch.Generator().manual_seed(1)).double()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.prepare((images(40),))
    check_vq_source(model.train(), images(6))
    assert model.training


class Halves(nn.Module):
    """Two codes for each half of an image: whether its mean is below 2; pixels are Normals about what they were."""

    grid, cardinalities, data_shape, levels = (2, 1), (2, 2), SHAPE, LEVELS
    family = pc.families.Normal()

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.tensor([0.3, 0.7], dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(()))

    def encode(self, images):
        halves = images.unflatten(1, (2, 2)).flatten(2).double()
        return (halves.mean(2) >= 2).long()

    def likelihood(self, codes):
        loc = self.loc[codes].repeat_interleave(12, 1)
        return {"loc": loc, "scale": torch.full_like(loc, 0.2)}


def test_a_model_of_ones_own_conforms():
    check_vq_source(Halves(), images(6))


class Int32(Halves):
    def encode(self, images):
        return super().encode(images).int()


class OfTheBatch(Halves):
    def encode(self, images):
        halves = images.unflatten(1, (2, 2)).flatten(2).double().mean(2)
        return (halves >= halves.mean()).long()


class Moves(Halves):
    def encode(self, images):
        self.seen += 1
        return super().encode(images)


class Dequantises(Halves):
    def encode(self, images):
        images += 1
        return super().encode(images - 1)


class Modes(Halves):
    def likelihood(self, codes):
        made = super().likelihood(codes)
        return {**made, "scale": made["scale"] * (2 if self.training else 1)}


class Transposed(Halves):
    def likelihood(self, codes):
        return {name: value.T for name, value in super().likelihood(codes).items()}


class FirstPixelOnly(Halves):
    def likelihood(self, codes):
        made = super().likelihood(codes)
        return {**made, "loc": made["loc"] + 0.1 * (codes[0, 0] - 0.5)}


class Nameless(nn.Module):
    pass


@pytest.mark.errors
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Int32, "int32"),
        (OfTheBatch, "batch"),
        (Moves, "encode moves seen"),
        (Dequantises, "in place"),
        (Modes, "likelihood differs between train and eval"),
        (Transposed, "likelihood gives loc as"),
        (FirstPixelOnly, "depends on the batch"),
        (Nameless, "lacks .*'encode'"),
    ],
)
def test_the_suite_finds_broken_models(broken, message):
    with pytest.raises(AssertionError, match=message):
        check_vq_source(broken(), images(8))
