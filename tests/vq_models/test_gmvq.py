"""GM-VQ: its quantiser by hand, its objective, its use of the codebook, and circuits with fixed draws of the noise."""

import math

import pytest
import torch

import pcircuits as pc
import vq_sources as vq
from vq_sources.errors import ConfigError, QuantizerError
from vq_sources.quantizers import GaussianMixtureQuantizer
from vq_sources.testing import check_vq_source

SHAPE, LEVELS, K, D = (2, 4), 5, 3, 2


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def images(n):
    return torch.randint(LEVELS, (n, *SHAPE), generator=seeded(0))


def small(**options):
    config = vq.GMVQConfig(
        data_shape=SHAPE, levels=LEVELS, grid=(1, 2), num_codes=K, hidden=4, hidden_at_image=4, codebook_dim=D, min_std=0.1,
        **options,
    )  # fmt: skip
    model = vq.GMVQ(config, seeded(1)).double()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.prepare((images(40),))
    return model


def quantizer(**options):
    made = GaussianMixtureQuantizer(D, K, **options).double()
    with torch.no_grad():
        made.means.copy_(torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]]))
        made.variance.fill_(0.5)
    return made


def by_hand(vector):
    """q(c | x), and ‖ẑ − μ_c‖², of one vector (ẑ, raw w), in plain Python."""
    (z, raw), means = (vector[:D], vector[D:]), [[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]]
    w = [math.log1p(math.exp(r + math.log(math.e - 1))) + 1e-3 for r in raw]
    scores = [
        math.exp(-0.5 * sum(wj * (a - b) ** 2 for wj, a, b in zip(w, z, mean, strict=True)) / 0.5) for mean in means
    ]
    squared = [sum((a - b) ** 2 for a, b in zip(z, mean, strict=True)) for mean in means]
    return [score / sum(scores) for score in scores], squared


VECTORS = torch.tensor(
    [[[0.2, 0.1, 0.0, 0.0], [1.5, 0.4, -1.0, 2.0]], [[0.3, 0.9, 1.0, 1.0], [0.9, 0.5, 0.5, -0.5]]]
).double()


def test_the_model_conforms():
    check_vq_source(small().train(), images(6))


def test_the_posterior_is_a_softmax_of_weighted_distances():
    got = quantizer().log_posterior(VECTORS).exp().flatten(0, 1)
    for row, vector in zip(got.tolist(), VECTORS.flatten(0, 1).tolist(), strict=True):
        assert row == pytest.approx(by_hand(vector)[0], rel=1e-12)


def test_outside_of_training_a_vector_becomes_the_mean_of_its_most_probable_code():
    made = quantizer().eval()
    quantized = made(VECTORS)
    best = [max(range(K), key=by_hand(v)[0].__getitem__) for v in VECTORS.flatten(0, 1).tolist()]
    assert quantized.codes.flatten().tolist() == best
    assert torch.equal(quantized.vectors, made.means[quantized.codes])
    assert torch.equal(made.decode(made.encode(VECTORS)), quantized.vectors)


def test_its_parts_are_those_of_the_aggregated_posterior():
    parts = quantizer().parts(VECTORS)
    every = [by_hand(vector) for vector in VECTORS.flatten(0, 1).tolist()]
    aggregated = [sum(q[c] for q, _ in every) / 4 for c in range(K)]
    entropy = -sum(p * math.log(p) for p in aggregated)
    conditional = -sum(p * math.log(p) for q, _ in every for p in q) / 4
    latent = sum(p * s for q, squared in every for p, s in zip(q, squared, strict=True)) / 4 / (2 * 0.5)
    assert parts["entropy"].item() == pytest.approx(entropy, rel=1e-12)
    assert parts["conditional_entropy"].item() == pytest.approx(conditional, rel=1e-12)
    assert parts["kl"].item() == pytest.approx(math.log(K) - entropy, rel=1e-12)
    assert parts["latent"].item() == pytest.approx(latent, rel=1e-12)
    assert entropy > conditional


def test_cold_samples_are_codes_by_their_probabilities_with_noise_about_their_means():
    """At a temperature near 0, y is one code: its frequency is q(c | x), and z − μ_c has the variance σ_c²(x)."""
    made = quantizer(temperature=1e-3, final_temperature=1e-3).train()
    n = 40_000
    with torch.random.fork_rng():
        torch.manual_seed(0)
        z = made(VECTORS[1:, 1:].expand(n, 1, -1)).vectors[:, 0].detach()
    q, squared = by_hand(VECTORS[1, 1].tolist())
    # Noise is at most σ_z = 0.7, and means are 1 apart: codes are told apart by the likelihood of z under each.
    deviations = [math.sqrt(0.5 * (s / D) / (s / D + 0.5)) for s in squared]
    means = made.means.detach()
    logs = torch.stack(
        [
            math.log(q[c]) - ((z - means[c]) ** 2).sum(1) / (2 * deviations[c] ** 2) - D * math.log(deviations[c])
            for c in range(K)
        ]
    )
    nearest = logs.softmax(0).mean(1)  # expected shares, whose mean under the mixture is q itself
    assert nearest.tolist() == pytest.approx(q, abs=0.01)
    expected = sum(q[c] * means[c] for c in range(K))
    assert z.mean(0).tolist() == pytest.approx(expected.tolist(), abs=0.02)
    second = sum(q[c] * (means[c] ** 2 + deviations[c] ** 2) for c in range(K))
    assert (z**2).mean(0).tolist() == pytest.approx(second.tolist(), abs=0.04)


def test_the_temperature_falls_geometrically_and_only_in_training():
    made = quantizer(anneal_steps=4)
    seen = [made.temperature]
    for _ in range(5):
        made.train()(VECTORS)
        seen.append(made.temperature)
    ratio = (0.1 / 2.0) ** 0.25
    assert seen == pytest.approx([2.0 * ratio ** min(t, 4) for t in range(6)], rel=1e-12)
    made.eval()(VECTORS)
    with torch.no_grad():
        made.train()(VECTORS)
    made.encode(VECTORS)
    assert int(made.steps) == 5


def test_the_objective_is_the_sum_that_it_says():
    model = small(latent_weight=0.7, kl_weight=2.0).eval()
    with torch.no_grad():
        total, parts = model.loss((images(6),))
        x = (images(6).flatten(1).double() + 0.5) / LEVELS
        made = model.likelihood(model.encode(images(6)))
    assert set(parts) == {"nll", "latent", "kl", "entropy", "conditional_entropy", "temperature", "perplexity"}
    assert total.item() == pytest.approx(parts["nll"] + 2 * (0.7 * parts["latent"] + 2.0 * parts["kl"]), rel=1e-12)
    middle = -model.family.log_density(x, made).sum(1).mean().item()
    assert parts["nll"] == pytest.approx(middle, abs=2.0)  # of dequantised pixels, not of their middles


def test_gradients_reach_the_means_and_the_encoder():
    model = small().train()
    total, _ = model.loss((images(6),))
    total.backward()
    assert bool(model.quantizer.means.grad.any())
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters())
    assert bool(next(model.encoder.parameters()).grad.any())


def test_the_codebook_stays_in_use_over_training():
    data = vq.load("digits")
    model = vq.GMVQ(vq.GMVQConfig(num_codes=16, hidden=16, anneal_steps=60), seeded(0))
    history = vq.fit(model, data, vq.FitSettings(epochs=6, learning_rate=2e-3))
    for epoch in history.epochs:
        assert epoch.train_metrics["entropy"] >= epoch.train_metrics["conditional_entropy"]
    codes = vq.encode(model, data)
    assert vq.codebook_report(codes.train.codes, 16).perplexity > 8


def test_fixed_draws_are_products_of_their_own(tmp_path):
    """p(x) = Σ_z p(z) 1/S Σ_s p(x | μ_z + σ_z ε_{s,z}), decoded grid by grid."""
    model = small()
    every = vq.selection.enumerate(vq.IndependentPrior((1, 2), K).double())
    decoder, drawn = vq.with_draws(model, every, 4, seeded(2))
    circuit = vq.distil(decoder, drawn, "bound")
    x = torch.rand((5, 8), generator=seeded(3), dtype=torch.float64)
    got = circuit.compile(dtype=torch.float64).log_prob(x).exp().detach()
    wanted = torch.zeros(5, dtype=torch.float64)
    for z in every.codes.tolist():
        for s in range(4):
            sigma = model.quantizer.variance.sqrt()
            vectors = torch.stack([model.quantizer.means[c] + sigma * decoder.noise[s, c] for c in z])
            made = model._decode(vectors[None])
            loc, scale = made["loc"][0].detach(), made["scale"][0].detach()
            logs = -0.5 * ((x - loc) / scale) ** 2 - scale.log() - 0.5 * math.log(2 * math.pi)
            wanted += logs.sum(1).exp() / 9 / 4
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=0)
    pc.save(circuit, tmp_path / "drawn.pc")
    again = vq.load_circuit(tmp_path / "drawn.pc").compile(dtype=torch.float64)
    assert torch.equal(again.log_prob(x), circuit.compile(dtype=torch.float64).log_prob(x))


def test_without_noise_draws_are_the_model():
    model = small()
    every = vq.selection.enumerate(vq.IndependentPrior((1, 2), K).double())
    decoder, drawn = vq.with_draws(model, every, 3, seeded(2))
    decoder.noise.zero_()
    x = torch.rand((5, 8), generator=seeded(3), dtype=torch.float64)
    pair = [
        vq.distil(m, c, "bound").compile(dtype=torch.float64).log_prob(x) for m, c in ((model, every), (decoder, drawn))
    ]
    torch.testing.assert_close(*pair, rtol=0, atol=1e-10)


def test_models_go_through_files(tmp_path):
    model = small()
    vq.save_model(model, tmp_path / "model")
    again = vq.load_model(tmp_path / "model", {"GMVQ": (vq.GMVQConfig, vq.GMVQ)})
    assert torch.equal(again.encode(images(6)), model.encode(images(6)))


@pytest.mark.errors
def test_errors_say_why():
    with pytest.raises(ConfigError, match="GMVQConfig: kl_weight"):
        vq.GMVQConfig(kl_weight=-1.0)
    with pytest.raises(ConfigError, match="GMVQConfig: temperature"):
        vq.GMVQConfig(temperature=0.0)
    with pytest.raises(QuantizerError, match="codebook is still empty"):
        GaussianMixtureQuantizer(D, K).encode(VECTORS.float())
    with pytest.raises(QuantizerError, match="a codebook of 3 codes from 2"):
        GaussianMixtureQuantizer(D, K).initialise(torch.zeros(2, 4))
    with pytest.raises(ConfigError, match="draws"):
        vq.with_draws(small(), vq.selection.enumerate(vq.IndependentPrior((1, 2), K)), 0)
