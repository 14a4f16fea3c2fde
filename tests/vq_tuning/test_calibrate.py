"""Calibration against its closed forms."""

import math

import pytest
import torch

import pcircuits as pc
import vq_sources as vq
from pcircuits.errors import ParameterError
from pcircuits.learning import FitSettings
from vq_sources.codes import CodeSet, Provenance

LONG = FitSettings(epochs=400, batch_size=500, learning_rate=0.05, final_fraction=0.01)


class Two:
    """Two codes of two Normals and a coin."""

    cardinalities = (2,)

    def __init__(self, scale=0.5):
        self.scale = scale
        self.variables = {"a": pc.families.Normal(), "coin": pc.families.Bernoulli(), "b": pc.families.Normal()}

    def likelihood(self, codes):
        loc = torch.tensor([[0.0, 1.0], [8.0, 9.0]], dtype=torch.float64)[codes[:, 0]]
        return {
            pc.families.Normal(): {"loc": loc, "scale": torch.full_like(loc, self.scale)},
            pc.families.Bernoulli(): {"probs": torch.tensor([[0.2], [0.7]], dtype=torch.float64)[codes[:, 0]]},
        }


def codes(*weights):
    n = len(weights)
    log = torch.tensor(weights, dtype=torch.float64).log()
    return CodeSet(torch.arange(n)[:, None], log, (1, 1), (2,), Provenance("by hand", None, n, n, ""))


def data(n=500):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((n, 3), generator=generator, dtype=torch.float64) * torch.tensor([2.0, 1.0, 0.25])
    x[:, 1] = torch.randint(2, (n,), generator=generator)
    return x


def test_of_one_code_the_factor_is_the_standard_deviation_about_it():
    x = data()
    found = vq.calibrate(Two(), codes(1.0), x, settings=LONG)
    for column, (label, loc) in enumerate((("a", 0.0), ("coin", None), ("b", 1.0))):
        wanted = 1.0 if loc is None else math.sqrt(float(((x[:, column] - loc) ** 2).mean())) / 0.5
        assert found.factors[column].item() == pytest.approx(wanted, rel=1e-2), label


def test_scales_that_are_too_small_are_found_out_and_everything_else_stays():
    """Data of the mixture itself, and a decoder whose scales are a third of what they were."""
    true = vq.distil(Two(), codes(0.25, 0.75), "prior", eager=True).compile(dtype=torch.float64)
    x = true.sample(2000, torch.Generator().manual_seed(1))
    sure, settings = Two(0.5 / 3), FitSettings(epochs=60, batch_size=500, learning_rate=0.05, final_fraction=0.01)
    found = vq.calibrate(sure, codes(0.25, 0.75), x, settings=settings)
    assert found.factors[[0, 2]].tolist() == pytest.approx([3.0, 3.0], rel=0.05)
    every = torch.arange(2)[:, None]
    before, after = sure.likelihood(every), found.likelihood(every)
    assert torch.equal(after[pc.families.Bernoulli()]["probs"], before[pc.families.Bernoulli()]["probs"])
    assert torch.equal(after[pc.families.Normal()]["loc"], before[pc.families.Normal()]["loc"])
    circuits = [vq.distil(m, codes(0.25, 0.75), "prior", eager=True) for m in (sure, found)]
    values = [c.compile(dtype=torch.float64).log_prob(x).mean().item() for c in circuits]
    assert values[1] > values[0] + 1.0
    assert circuits[1].variables == ("a", "coin", "b")


def test_a_calibrated_model_is_a_source_of_its_own():
    images = torch.randint(17, (40, 8, 8), generator=torch.Generator().manual_seed(0))
    model = vq.VQVAE(vq.VQVAEConfig(num_codes=2, hidden=8), torch.Generator().manual_seed(0)).double()
    with torch.random.fork_rng():
        model.prepare((images,))
    some = vq.selection.enumerate(vq.IndependentPrior(model.grid, num_codes=2)).prefix(3)
    x = (images.flatten(1).double() + 0.5) / 17
    found = vq.calibrate(model, some, x, settings=FitSettings(epochs=2))
    kept, eager = (vq.distil(found, some, "prior", eager=eager) for eager in (False, True))
    torch.testing.assert_close(
        kept.compile(dtype=torch.float64).log_prob(x), eager.compile(dtype=torch.float64).log_prob(x)
    )
    assert found.model.encoder is None


@pytest.mark.errors
def test_what_has_no_scale_says_so():
    class Coins:
        cardinalities, variables = (2,), {0: pc.families.Bernoulli()}

        def likelihood(self, codes):
            return {"probs": torch.tensor([[0.2], [0.7]])[codes[:, 0]]}

    with pytest.raises(ParameterError, match="none of these has a scale"):
        vq.calibrate(Coins(), codes(0.5, 0.5), torch.zeros(3, 1))
