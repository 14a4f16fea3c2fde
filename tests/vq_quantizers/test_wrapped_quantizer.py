"""The laws of quantisers, on the real package, and a clear error for each of its options that breaks them."""

import pytest
import torch
from torch import nn
from vector_quantize_pytorch import FSQ, LFQ, ResidualVQ, SimVQ, VectorQuantize

from vq_sources.errors import QuantizerError
from vq_sources.quantizers import WrappedQuantizer, ema_quantizer
from vq_sources.quantizers.seeding import seeded


def vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def unchanged(module: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    """Whether each number is what it was; NaN is itself, since some buffers of the package are never initialised."""
    now = module.state_dict()
    same = (torch.allclose(now[name], before[name], rtol=0.0, atol=0.0, equal_nan=True) for name in before)
    return now.keys() == before.keys() and all(same)


def initialised(**options: object) -> WrappedQuantizer:
    quantizer = ema_quantizer(dim=4, num_codes=8, **options)  # type: ignore[arg-type]
    quantizer.initialise(vectors(200, 4), torch.Generator().manual_seed(1))
    return quantizer


GOOD = {
    "plain": {},
    "k-means": {"kmeans_init": True},
    "projected": {"codebook_dim": 2},
    "projected k-means": {"codebook_dim": 3, "kmeans_init": True},
    "cosine": {"use_cosine_sim": True},
    "rotation trick": {"rotation_trick": True},
    "stochastic": {"stochastic_sample_codes": True},
    "learnable": {"learnable_codebook": True, "ema_update": False},
}

BAD = {
    "affine_param": ({"affine_param": True}, "affine_param=True"),
    "affine_param with k-means": ({"affine_param": True, "kmeans_init": True}, "affine_param=True"),
    "vq_bridge": ({"vq_bridge": nn.Linear(4, 4)}, "vq_bridge"),
    "image layout": ({"accept_image_fmap": True}, "accept_image_fmap=True"),
    "image layout, projected": ({"accept_image_fmap": True, "codebook_dim": 2}, "accept_image_fmap=True"),
    "3d layout": ({"accept_3d_fmap": True}, "accept_3d_fmap=True"),
    "channels first": ({"channel_last": False}, "channel_last=False"),
    "heads": ({"heads": 2, "codebook_dim": 2}, "heads > 1"),
    "separate heads": ({"heads": 2, "separate_codebook_per_head": True}, "heads > 1"),
}


@pytest.mark.parametrize("options", GOOD.values(), ids=GOOD.keys())
def test_codes_decode_to_the_forward_pass_on_a_non_square_grid(options: dict[str, object]) -> None:
    quantizer = WrappedQuantizer(VectorQuantize(**{"dim": 4, "codebook_size": 8, "rotation_trick": False, **options}))
    quantizer.initialise(vectors(100, 4))
    quantizer.eval()
    x = vectors(5, 2 * 3, 4, seed=1)
    out, codes, loss = quantizer(x)
    assert codes.shape == (5, 6)
    assert codes.dtype == torch.int64
    assert 0 <= int(codes.min()) <= int(codes.max()) < 8
    assert loss.ndim == 0
    torch.testing.assert_close(quantizer.decode(codes), out, rtol=1e-5, atol=1e-6)
    assert torch.equal(quantizer.encode(x), codes)


@pytest.mark.parametrize(("options", "named"), BAD.values(), ids=BAD.keys())
def test_an_option_that_does_not_decode_is_named(options: dict[str, object], named: str) -> None:
    module = VectorQuantize(**{"dim": 4, "codebook_size": 8, **options})
    before = snapshot(module)
    with pytest.raises(QuantizerError, match=rf"option at fault is {named}: .*(leave|take)"):
        WrappedQuantizer(module)
    assert unchanged(module, before)


def test_residual_quantisers_are_refused() -> None:
    with pytest.raises(QuantizerError, match="option at fault is num_quantizers"):
        WrappedQuantizer(ResidualVQ(dim=4, codebook_size=8, num_quantizers=2))
    diveq = ResidualVQ(dim=4, codebook_size=8, num_quantizers=1, diveq=True, learnable_codebook=True, ema_update=False)
    with pytest.raises(QuantizerError, match="option at fault is diveq"):
        WrappedQuantizer(diveq)


def test_a_fault_of_no_known_option_is_still_an_error() -> None:
    class Noisy(VectorQuantize):  # type: ignore[misc]
        def forward(self, x: torch.Tensor, **options: object) -> object:
            out, codes, loss = super().forward(x, **options)
            return out + torch.rand(()), codes, loss

    with pytest.raises(QuantizerError, match=r"two eval forward passes .* differ\. No option known"):
        WrappedQuantizer(Noisy(dim=4, codebook_size=8, rotation_trick=False))


def test_wrapping_leaves_the_module_and_the_global_generator_alone() -> None:
    module = VectorQuantize(dim=4, codebook_size=8, kmeans_init=True, rotation_trick=False)
    before, state = snapshot(module), torch.get_rng_state()
    quantizer = WrappedQuantizer(module)
    assert unchanged(module, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert not quantizer.initialised


@pytest.mark.parametrize(
    "module",
    [LFQ(codebook_size=16, dim=4), LFQ(codebook_size=16, dim=8), FSQ([4, 4], dim=4), SimVQ(dim=4, codebook_size=8)],
    ids=["lfq", "lfq with projections", "fsq", "simvq"],
)
def test_quantisers_of_other_kinds_are_refused_when_they_are_wrapped(module: torch.nn.Module) -> None:
    with pytest.raises(QuantizerError, match=rf"{type(module).__name__} cannot be used .* Take .*VectorQuantize\(dim"):
        WrappedQuantizer(module)


def test_a_codebook_that_moves_while_it_is_frozen_is_refused() -> None:
    class Restless(VectorQuantize):
        def forward(self, x: torch.Tensor, *args: object, **kwargs: object) -> object:
            if self.training:
                self._codebook.embed.add_(1.0)
            return super().forward(x, *args, **kwargs)

    with pytest.raises(QuantizerError, match=r"freeze_codebook=True changes its state \(_codebook.embed"):
        WrappedQuantizer(Restless(dim=4, codebook_size=8, rotation_trick=False))


def test_the_default_has_no_rotation_trick_and_starts_by_k_means() -> None:
    module = ema_quantizer(dim=4, num_codes=8).module
    assert module.rotation_trick is False
    assert not bool(module._codebook.initted)
    assert VectorQuantize(dim=4, codebook_size=8).rotation_trick is True  # the package's own default


@pytest.mark.parametrize("training", [False, True])
def test_without_a_codebook_nothing_is_encoded_or_initialised(training: bool) -> None:
    quantizer = ema_quantizer(dim=4, num_codes=8).train(training)
    before = snapshot(quantizer)
    for use in (quantizer, quantizer.encode):
        with pytest.raises(QuantizerError, match="prepare"):
            use(vectors(3, 6, 4))
    with pytest.raises(QuantizerError, match="codebook is still empty"):
        quantizer.decode(torch.zeros(3, 6, dtype=torch.int64))
    assert unchanged(quantizer, before)


def test_k_means_puts_each_code_at_the_mean_of_its_vectors() -> None:
    points = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]]).repeat_interleave(50, 0) + 0.01 * vectors(150, 2)
    quantizer = ema_quantizer(dim=2, num_codes=3)
    quantizer.initialise(points, torch.Generator().manual_seed(4))
    codes = quantizer.encode(points[None])[0]
    for code in range(3):
        mean = points[codes == code].mean(0)
        torch.testing.assert_close(quantizer.decode(torch.tensor([[code]]))[0, 0], mean, rtol=1e-4, atol=1e-3)


def test_initialisation_depends_on_the_seed_alone_and_happens_once() -> None:
    states = []
    for noise in (1, 2):
        torch.rand(noise)
        quantizer = ema_quantizer(dim=4, num_codes=8)
        quantizer.initialise(vectors(200, 4), torch.Generator().manual_seed(3))
        states.append(snapshot(quantizer))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    quantizer.initialise(vectors(200, 4, seed=9))
    assert unchanged(quantizer, states[1])


def test_too_few_training_vectors_are_an_error() -> None:
    with pytest.raises(QuantizerError, match="8 codes from 5 training vectors"):
        ema_quantizer(dim=4, num_codes=8).initialise(vectors(5, 4))


def test_the_codebook_moves_only_in_training_and_with_gradients() -> None:
    quantizer = initialised()
    before = snapshot(quantizer)
    x = vectors(16, 6, 4, seed=2)
    quantizer.eval()(x)
    quantizer.train()
    quantizer.encode(x)
    with torch.no_grad():
        quantizer(x)
    assert quantizer.module.training
    assert unchanged(quantizer, before)
    quantizer(x)
    assert not unchanged(quantizer, before)


def test_gradients_pass_straight_through() -> None:
    quantizer = initialised().train()
    x = vectors(4, 6, 4).requires_grad_()
    weights = vectors(4, 6, 4, seed=5)
    (quantizer(x).vectors * weights).sum().backward()
    torch.testing.assert_close(x.grad, weights)


def test_a_dead_code_is_revived_from_the_batch() -> None:
    quantizer = initialised(dead_code_threshold=1.0).train()
    far = 100 + vectors(50, 6, 4)
    with seeded(torch.Generator().manual_seed(0)):
        for _ in range(100):
            quantizer(far)
    codebook = quantizer.module.codebook
    assert float(torch.cdist(codebook, far.flatten(0, 1)).min(1).values.max()) < 5


def test_state_round_trips_exactly_and_training_goes_on_alike() -> None:
    quantizer = initialised().train()
    quantizer(vectors(16, 6, 4, seed=2))
    twin = ema_quantizer(dim=4, num_codes=8)
    assert not twin.initialised
    twin.load_state_dict(quantizer.state_dict())
    assert twin.initialised
    assert unchanged(twin, snapshot(quantizer))
    for each in (quantizer, twin.train()):
        with seeded(torch.Generator().manual_seed(0)):
            each(vectors(16, 6, 4, seed=3))
    assert unchanged(twin, snapshot(quantizer))


def test_seeded_gives_the_global_generator_back_also_after_an_error() -> None:
    def draw_and_fail() -> None:
        with seeded(torch.Generator().manual_seed(0)):
            torch.rand(3)
            raise RuntimeError("inside")

    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="inside"):
        draw_and_fail()
    assert torch.equal(torch.get_rng_state(), state)
