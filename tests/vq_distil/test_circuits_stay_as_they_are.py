"""A distilled circuit is of the model at one moment: what happens to the model afterwards changes nothing."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

import pcircuits as pc
import vq_sources as vq
from vq_sources.errors import ConfigError
from vq_sources.protocols import VQDecoder, VQSource

LEVELS, SHAPE, GRID, K = 5, (4, 6), (2, 2), 3


def images(n, seed=0):
    return torch.randint(LEVELS, (n, *SHAPE), generator=torch.Generator().manual_seed(seed))


def config(family=None):
    return vq.VQVAEConfig(
        data_shape=SHAPE, levels=LEVELS, grid=GRID, num_codes=K, hidden=8, hidden_at_image=4, codebook_dim=4,
        family=family or pc.families.Normal(), min_std=0.1,
    )  # fmt: skip


def tiny(family=None):
    model = vq.VQVAE(config(family), torch.Generator().manual_seed(1)).double()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.prepare((images(60),))
    return model


def codes():
    return vq.selection.enumerate(vq.IndependentPrior(GRID, K), 20)


def rows():
    return vq.dequantise(images(5, 1).flatten(1), LEVELS, torch.Generator().manual_seed(0), torch.float64)


def log_prob(circuit, x=None):
    with torch.no_grad():
        return circuit.compile(dtype=torch.float64).log_prob(rows() if x is None else x)


def trained_on(model):
    """Every weight and the codebook move."""
    with torch.no_grad():
        for value in [*model.parameters(), *model.buffers()]:
            if value.is_floating_point():
                value.mul_(1.5).add_(0.1)


class Table(nn.Module):
    """A decoder of a user's: no config, no encoder, two numbers for each code and pixel."""

    grid, cardinalities, data_shape, levels = (1, 2), (2, 3), (2, 2), LEVELS
    family = pc.families.Normal()

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.linspace(0, 1, 24, dtype=torch.float64).view(6, 4))

    def likelihood(self, codes):
        loc = self.loc[codes[:, 0] * 3 + codes[:, 1]]
        return {"loc": loc, "scale": torch.full_like(loc, 0.2)}


@pytest.mark.parametrize("eager", [False, True])
def test_training_the_model_on_changes_no_circuit(eager):
    model = tiny()
    circuit = vq.distil(model, codes(), "prior", eager=eager)
    before = log_prob(circuit)
    trained_on(model)
    assert torch.equal(log_prob(circuit), before)
    assert not torch.allclose(log_prob(vq.distil(model, codes(), "prior", eager=eager)), before)


def test_changing_codes_in_place_changes_no_circuit():
    chosen = codes()
    circuit = vq.distil(tiny(), chosen, "uniform")
    before = log_prob(circuit)
    chosen.codes.zero_()
    assert torch.equal(log_prob(circuit), before)


def test_the_model_keeps_its_mode_and_its_gradients():
    model = tiny().train()
    model.likelihood(codes().codes)["loc"].sum().backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    circuit = vq.distil(model, codes(), "uniform")
    circuit.compile(dtype=torch.float64).log_prob(rows()).sum().backward()
    assert all(module.training for module in model.modules())
    assert all(torch.equal(dict(model.named_parameters())[name].grad, grad) for name, grad in grads.items())


def test_every_parameter_of_the_circuit_takes_part_in_its_answers():
    model = tiny()
    compiled = vq.distil(model, codes(), "uniform").compile(dtype=torch.float64)
    compiled.log_prob(rows()).sum().backward()
    assert all(p.grad is not None for p in compiled.parameters())
    needed = sum(p.numel() for part in (model.decoder, model.head) for p in part.parameters())
    assert sum(p.numel() for p in compiled.parameters()) == needed + len(codes())


def test_the_decoder_alone_decodes_and_says_that_it_does_not_encode():
    model = tiny().eval()
    alone = model.decoder_alone()
    assert torch.equal(alone.likelihood(codes().codes)["loc"], model.likelihood(codes().codes)["loc"])
    assert model.encode(images(3)).shape == (3, 4)
    for use in (alone.encode, lambda x: alone.loss((x,))):
        with pytest.raises(ConfigError, match="decoder of a VQVAE alone, and encodes nothing"):
            use(images(3))


def test_a_file_holds_the_decoder_alone(tmp_path):
    model = tiny()
    circuit = vq.distil(model, codes(), "prior")
    before = log_prob(circuit)
    pc.save(circuit, tmp_path / "c.pc")
    trained_on(model)
    loaded = vq.load_circuit(tmp_path / "c.pc")
    assert torch.equal(log_prob(loaded), before)
    assert not [name for name, _ in loaded.compile().named_parameters() if "encoder" in name]
    pc.save(loaded, tmp_path / "again.pc")
    assert torch.equal(log_prob(vq.load_circuit(tmp_path / "again.pc")), before)


def test_files_of_before_with_an_encoder_still_load(tmp_path):
    model = tiny()
    circuit = vq.distil(model, codes(), "prior")
    source = circuit.inputs[0].parameters.source
    source.model, source.is_alone = model, False
    pc.save(circuit, tmp_path / "old.pc")
    loaded = vq.load_circuit(tmp_path / "old.pc")
    assert [name for name, _ in loaded.compile().named_parameters() if "encoder" in name]
    assert torch.equal(log_prob(loaded), log_prob(circuit))


def test_a_family_of_ones_own_goes_through_a_file(tmp_path):
    @dataclass(frozen=True)
    class Wide(pc.families.Normal):
        name = "wide"

    circuit = vq.distil(tiny(Wide()), codes(), "prior")
    pc.save(circuit, tmp_path / "c.pc")
    assert torch.equal(log_prob(vq.load_circuit(tmp_path / "c.pc", types=(Wide,))), log_prob(circuit))
    with pytest.raises(pc.FileFormatError, match="Wide"):
        vq.load_circuit(tmp_path / "c.pc")


def test_anything_with_a_likelihood_is_distilled():
    table = Table()
    assert isinstance(table, VQDecoder)
    assert not isinstance(table, VQSource)
    every = vq.selection.enumerate(vq.IndependentPrior(table.grid, table.cardinalities))
    x = torch.rand(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    units = torch.distributions.Normal(table.likelihood(every.codes)["loc"].detach(), 0.2).log_prob(x[:, None]).sum(2)
    wanted = units.logsumexp(1) - torch.tensor(6.0, dtype=torch.float64).log()
    circuit = vq.distil(table, every, "uniform")
    trained_on(table)
    assert log_prob(circuit, x).tolist() == pytest.approx(wanted.tolist(), rel=1e-9)
