"""A tiny VQ-VAE whose codes can all be written down: distillation against sums by hand."""

import itertools
import math

import pytest
import torch

import pcircuits as pc
import vq_sources as vq
from vq_sources.errors import DataError, SelectionError

LEVELS, SHAPE, GRID, K = 5, (4, 6), (2, 2), 3


def tiny(family=None):
    config = vq.VQVAEConfig(
        data_shape=SHAPE, levels=LEVELS, grid=GRID, num_codes=K, hidden=8, hidden_at_image=4, codebook_dim=4,
        family=family or pc.families.Normal(), min_std=0.1,
    )  # fmt: skip
    model = vq.VQVAE(config, torch.Generator().manual_seed(1)).double()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.prepare((images(60),))
    return model.eval()


def images(n, seed=0):
    return torch.randint(LEVELS, (n, *SHAPE), generator=torch.Generator().manual_seed(seed))


def prior(num_classes=2):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = vq.PixelCNN(GRID, K, num_classes=num_classes).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return made.eval()


def by_hand(model, x, weights):
    """log Σ_z w(z) Π_v Normal(x_v; loc_v(z), scale_v(z)) over all 81 codes, in plain Python."""
    codes = torch.tensor(list(itertools.product(range(K), repeat=4)))
    made = model.likelihood(codes)
    totals = []
    for row in x.tolist():
        terms = []
        for z, weight in enumerate(weights):
            loc, scale = made["loc"][z].tolist(), made["scale"][z].tolist()
            parts = [
                -0.5 * ((v - m) / s) ** 2 - math.log(s) - 0.5 * math.log(2 * math.pi)
                for v, m, s in zip(row, loc, scale, strict=True)
            ]
            terms.append(math.log(weight) + math.fsum(parts))
        top = max(terms)
        totals.append(top + math.log(math.fsum(math.exp(t - top) for t in terms)))
    return totals


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("weights", ["prior", "bound"])
def test_all_codes_with_prior_weights_are_the_teacher(weights, eager):
    model, z_prior = tiny(), prior()
    codes = vq.selection.enumerate(z_prior)
    assert len(codes) == 81
    circuit = vq.distil(model, codes, weights, eager=eager)
    x = vq.dequantise(images(5, 1).flatten(1), LEVELS, torch.Generator().manual_seed(0), torch.float64)
    order = torch.tensor(list(itertools.product(range(K), repeat=4)))
    wanted = by_hand(model, x, z_prior.marginal().log_prob(order).exp().tolist())
    with torch.no_grad():
        found = circuit.compile(dtype=torch.float64).log_prob(x)
    assert found.tolist() == pytest.approx(wanted, rel=1e-9)
    assert circuit.check().normalised.holds


def test_uniform_weights_are_equation_2():
    model, z_prior = tiny(), prior()
    codes = vq.selection.enumerate(z_prior)
    x = vq.dequantise(images(4, 2).flatten(1), LEVELS, torch.Generator().manual_seed(0), torch.float64)
    with torch.no_grad():
        found = vq.distil(model, codes, "uniform").compile(dtype=torch.float64).log_prob(x)
    assert found.tolist() == pytest.approx(by_hand(model, x, [1 / 81] * 81), rel=1e-9)


@pytest.mark.parametrize("family", [pc.families.Normal(), pc.families.DiscretizedLogistic(LEVELS)])
def test_the_bound_rises_over_nested_sets_and_never_passes_the_teacher(family):
    model, z_prior = tiny(family), prior()
    chosen = vq.selection.stochastic_beam(z_prior, 81, generator=torch.Generator().manual_seed(3))
    teacher = vq.distil(model, vq.selection.enumerate(z_prior), "bound").compile(dtype=torch.float64)
    x = vq.metrics.observations(teacher.circuit, images(6, 4), LEVELS).double()
    with torch.no_grad():
        exact = teacher.log_prob(x)
        before = torch.full_like(exact, -torch.inf)
        for n in (1, 3, 9, 27, 60, 81):
            now = vq.distil(model, chosen.prefix(n), "bound").compile(dtype=torch.float64).log_prob(x)
            assert (now >= before - 1e-12 * now.abs()).all()  # rounding
            assert (now <= exact + 1e-9 * exact.abs()).all()
            before = now
    assert now.tolist() == pytest.approx(exact.tolist(), rel=1e-9)


def test_one_root_for_each_class():
    model, z_prior = tiny(), prior(num_classes=3)
    codes = vq.selection.enumerate(z_prior)
    x = vq.dequantise(images(4, 5).flatten(1), LEVELS, torch.Generator().manual_seed(0), torch.float64)
    with torch.no_grad():
        joint = vq.distil(model, codes, "bound", classes=True).compile(dtype=torch.float64).log_prob(x)
        total = vq.distil(model, codes, "bound").compile(dtype=torch.float64).log_prob(x)
        per_class = vq.distil(model, codes, "prior", classes=True).compile(dtype=torch.float64).log_prob(x)
    assert joint.shape == (4, 3)
    assert joint.logsumexp(1).tolist() == pytest.approx(total.tolist(), rel=1e-9)
    wanted = joint - z_prior.class_probs.log()
    assert per_class.flatten().tolist() == pytest.approx(wanted.flatten().tolist(), rel=1e-9)


def test_files_bring_the_decoder_back(tmp_path):
    model, z_prior = tiny(), prior()
    circuit = vq.distil(model, vq.selection.beam(z_prior, 20), "prior")
    pc.save(circuit, tmp_path / "c.pc")
    loaded = vq.load_circuit(tmp_path / "c.pc")
    x = vq.dequantise(images(4, 6).flatten(1), LEVELS, torch.Generator().manual_seed(0), torch.float64)
    with torch.no_grad():
        before = circuit.compile(dtype=torch.float64).log_prob(x)
        after = loaded.compile(dtype=torch.float64).log_prob(x)
    assert torch.equal(before, after)


def test_training_the_circuit_trains_a_copy_of_the_decoder():
    model, z_prior = tiny(), prior()
    circuit = vq.distil(model, vq.selection.beam(z_prior, 20), "uniform")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    compiled = circuit.compile(dtype=torch.float64)
    x = vq.dequantise(images(30, 7).flatten(1), LEVELS, torch.Generator().manual_seed(0), torch.float64)
    optimizer = torch.optim.Adam(compiled.parameters(), lr=1e-2)
    first = float(-compiled.log_prob(x).mean().detach())
    for _ in range(10):
        optimizer.zero_grad()
        loss = -compiled.log_prob(x).mean()
        loss.backward()
        optimizer.step()
    assert float(-compiled.log_prob(x).mean().detach()) < first - 0.1
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    again = compiled.to_circuit().compile(dtype=torch.float64)
    with torch.no_grad():
        assert again.log_prob(x).tolist() == pytest.approx(compiled.log_prob(x).tolist(), rel=1e-9)


def test_parameters_are_made_for_the_chosen_columns_alone():
    source = vq.DecoderSource(tiny(), vq.selection.enumerate(prior()).codes)
    everything = source.parameters_for(torch.arange(81))
    some = source.parameters_for(torch.tensor([5, 80]))
    for name, value in everything.items():
        assert value.shape == (24, 81)
        assert torch.allclose(value[:, [5, 80]], some[name], rtol=1e-12)


class TestMetrics:
    def test_discrete_bits_are_those_of_the_bins(self):
        model, z_prior = tiny(), prior()
        compiled = vq.distil(model, vq.selection.enumerate(z_prior), "prior").compile(dtype=torch.float64)
        batch = images(3, 8)
        lower, upper = vq.metrics.bin_bounds(batch.flatten(1), LEVELS)
        made = model.likelihood(vq.selection.enumerate(z_prior).codes)
        cdf = lambda x: torch.special.ndtr((x.unsqueeze(1) - made["loc"]) / made["scale"])  # noqa: E731
        terms = (cdf(upper) - cdf(lower)).log().sum(-1) + vq.selection.enumerate(z_prior).log_weights
        wanted = -terms.logsumexp(1).mean().item() / math.log(2) / 24
        assert vq.metrics.discrete_bpd(compiled, batch, LEVELS) == pytest.approx(wanted, rel=1e-6)

    def test_continuous_bits_bound_the_discrete_ones_on_average(self):
        compiled = vq.distil(tiny(), vq.selection.enumerate(prior()), "prior").compile()
        batch = images(40, 9)
        draws = [vq.metrics.continuous_bpd(compiled, batch, LEVELS, seed) for seed in range(10)]
        assert vq.metrics.discrete_bpd(compiled, batch, LEVELS) < sum(draws) / len(draws)

    def test_discrete_bits_of_a_bound_are_a_bound(self):
        model, z_prior = tiny(), prior()
        codes = vq.selection.enumerate(z_prior).subset(torch.arange(80, -1, -1))  # the least probable first
        found = [
            vq.metrics.discrete_bpd(vq.distil(model, codes.prefix(n), "bound").compile(), images(5, 11), LEVELS)
            for n in (3, 20, 81)
        ]
        assert found[0] > found[1] > found[2]
        whole = vq.metrics.discrete_bpd(vq.distil(model, codes, "prior").compile(), images(5, 11), LEVELS)
        assert found[2] == pytest.approx(whole, rel=1e-4)

    def test_integers_have_no_density(self):
        model = tiny(pc.families.DiscretizedNormal(LEVELS))
        compiled = vq.distil(model, vq.selection.beam(prior(), 10), "prior").compile()
        assert vq.metrics.continuous_bpd(compiled, images(3), LEVELS) is None
        assert vq.metrics.discrete_bpd(compiled, images(3), LEVELS) > 0

    def test_inpainting_keeps_what_is_visible(self):
        compiled = vq.distil(tiny(), vq.selection.enumerate(prior()), "prior").compile()
        visible = torch.ones(SHAPE, dtype=torch.bool)
        visible[2:] = False
        batch = images(3, 10)
        result = vq.metrics.inpaint(compiled, batch, visible, LEVELS, 2, torch.Generator().manual_seed(0))
        assert result.samples.shape == (2, 3, *SHAPE)
        assert torch.equal(result.mean[:, :2], result.original[:, :2])
        assert math.isfinite(result.psnr)
        assert math.isfinite(result.conditional_bits)

    def test_sizes_are_three_numbers(self):
        model, z_prior = tiny(), prior()
        circuit = vq.distil(model, vq.selection.beam(z_prior, 10), "uniform")
        found = vq.metrics.sizes(circuit, model, z_prior)
        assert found.circuit == 10 + 2 * 10 * 24
        assert found.teacher == sum(p.numel() for p in model.parameters())


@pytest.mark.errors
class TestErrors:
    def test_weights(self):
        model, codes = tiny(), vq.selection.beam(prior(), 10)
        with pytest.raises(pc.ParameterError, match=r'"uniform", "prior", "bound" or a tensor'):
            vq.distil(model, codes, "priors")
        with pytest.raises(pc.ParameterError, match=r"have shape \(9,\); they need \(10,\)"):
            vq.distil(model, codes, torch.ones(9))

    def test_classes_need_a_conditional_prior(self):
        codes = vq.selection.enumerate(vq.IndependentPrior(GRID, K))
        with pytest.raises(SelectionError, match="class-conditional"):
            vq.distil(tiny(), codes, "prior", classes=True)

    def test_codes_of_another_grid(self):
        codes = vq.selection.enumerate(vq.IndependentPrior((1, 2), K))
        with pytest.raises(DataError, match="grid"):
            vq.distil(tiny(), codes)

    def test_an_inpainting_hides_something(self):
        compiled = vq.distil(tiny(), vq.selection.beam(prior(), 10), "prior").compile()
        with pytest.raises(DataError, match="both visible and hidden"):
            vq.metrics.inpaint(compiled, images(2), torch.ones(SHAPE, dtype=torch.bool), LEVELS)


def test_conditional_bits_follow_their_seed():
    compiled = vq.distil(tiny(), vq.selection.beam(prior(), 10), "prior").compile(dtype=torch.float64)
    visible = torch.ones(SHAPE, dtype=torch.bool)
    visible[2:] = False
    bits = [vq.metrics.inpaint(compiled, images(3), visible, LEVELS, seed=seed).conditional_bits for seed in (0, 0, 1)]
    assert bits[0] == bits[1] != bits[2]
