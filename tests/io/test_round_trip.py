"""`save` and `load`: what comes back is what was saved, to the bit."""

import json
import os
import resource
import struct
import sys
import time
from pathlib import Path

import pytest
import safetensors
import torch
from hypothesis import HealthCheck, given, settings
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from io_cases import TYPES, Decoder, Shifted, assert_same, decoder, everything, held, sourced, with_marginalised_source

from pcircuits.circuit.algebra import mixture
from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.leaves import Bernoulli, Normal
from pcircuits.circuit.units import Input, Units
from pcircuits.errors import CircuitError, FileFormatError
from pcircuits.families import Normal as NormalFamily
from pcircuits.io import SavableSource, load, save
from pcircuits.parameters import Parameter, Sourced, real
from pcircuits.testing.oracle import Oracle
from pcircuits.testing.strategies import circuits


def test_every_kind_of_array(tmp_path):
    circuit = everything()
    kinds = {type(a).__name__ for a in circuit.arrays}
    assert kinds == {"Input", "Constant", "Product", "Outer", "Mix", "Sum", "Wiring"}
    save(circuit, tmp_path / "c.pc")
    assert_same(circuit, load(tmp_path / "c.pc", types=TYPES))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(circuits(max_roots=2))
def test_random_circuits(tmp_path, circuit):
    save(circuit, tmp_path / "c.pc")
    again = load(tmp_path / "c.pc")
    assert_same(circuit, again)
    one, other = Oracle(circuit), Oracle(again)
    row = {label: one.candidates(label)[0] for label in circuit.variables}
    assert one.log_value(row) == other.log_value(row)


def test_saving_what_was_loaded_gives_the_same_file(tmp_path):
    save(everything(), tmp_path / "one.pc")
    save(load(tmp_path / "one.pc", types=TYPES), tmp_path / "other.pc")
    assert (tmp_path / "one.pc").read_bytes() == (tmp_path / "other.pc").read_bytes()


def test_it_is_a_safetensors_file_with_json_in_its_header(tmp_path):
    save(everything(), tmp_path / "c.pc")
    with safetensors.safe_open(tmp_path / "c.pc", framework="pt") as file:
        metadata = file.metadata()
        assert metadata["format"] == "pcircuits"
        assert metadata["version"] == "1"
        assert len(metadata["digest"]) == 64
        assert json.loads(metadata["structure"])["variables"][:2] == ["a", "b"]
        for name in file.keys():  # noqa: SIM118  (it is no dict)
            assert file.get_tensor(name).numel() >= 0


def test_sources_come_back_with_codes_and_weights(tmp_path):
    source = decoder()
    circuit = Circuit(mixture([0.25] * 4, Input(NormalFamily(), [(0,), (1,), (2,)], Sourced(source, 3, 4)).prod()))
    state = torch.get_rng_state()
    save(circuit, tmp_path / "c.pc")
    again = load(tmp_path / "c.pc", types=(Decoder,))
    assert torch.equal(torch.get_rng_state(), state)
    (back,) = sourced(again)
    columns = torch.tensor([3, 0, 1])
    assert torch.equal(back.parameters_for(columns)["loc"], source.parameters_for(columns)["loc"])
    assert isinstance(back, SavableSource)
    assert_same(circuit, again)


def test_a_source_in_another_dtype_comes_back_in_it(tmp_path):
    source = decoder().double()
    circuit = Circuit(mixture([0.25] * 4, Input(NormalFamily(), [(0,), (1,), (2,)], Sourced(source, 3, 4)).prod()))
    save(circuit, tmp_path / "c.pc")
    assert_same(circuit, load(tmp_path / "c.pc", types=(Decoder,)))


def test_a_shared_source_is_stored_once_and_stays_shared(tmp_path):
    circuit = with_marginalised_source()
    save(circuit, tmp_path / "c.pc")
    again = load(tmp_path / "c.pc", types=(Decoder,))
    assert_same(circuit, again)
    assert len({id(s.source) for s in sourced(again)}) == 1
    with safetensors.safe_open(tmp_path / "c.pc", framework="pt") as file:
        assert len([name for name in file.keys() if name.endswith("weight.bias")]) == 1  # noqa: SIM118


def test_ties_stay_ties(tmp_path):
    tied = Parameter(torch.zeros(1, 2), real)
    one, other = Normal(0, tied, 1.0), Normal(1, tied, 2.0)
    save(Circuit((one * other).sum([0.5, 0.5])), tmp_path / "c.pc")
    a, b = load(tmp_path / "c.pc").inputs
    assert a.parameters["loc"] is b.parameters["loc"]


def test_repeated_values_are_stored_once(tmp_path):
    save(Circuit(Normal(range(500), torch.zeros(500, 100), 0.5).prod().sum([0.01] * 100)), tmp_path / "c.pc")
    scale = load(tmp_path / "c.pc").inputs[0].parameters["scale"].value
    assert scale.shape == (500, 100)
    assert scale.stride() == (0, 0)
    assert os.path.getsize(tmp_path / "c.pc") < 4 * 500 * 100 + 20_000


def test_repeats_beyond_what_a_reader_takes_are_stored_in_full(tmp_path, monkeypatch):
    monkeypatch.setattr("pcircuits.io.parameters.LARGEST_EXPANSION", 250)
    circuit = Circuit(Normal(range(10), torch.zeros(10, 20), 0.5).prod().sum([0.05] * 20) * Bernoulli("b", 0.5))
    first = circuit.inputs[0].parameters["scale"]
    again = Normal(range(10, 20), torch.zeros(10, 20), first.value[:1].expand(10, 20))
    save(Circuit(circuit.root * again.prod()[0, 0]), tmp_path / "c.pc")
    one, other = (a.parameters["scale"].value for a in load(tmp_path / "c.pc").inputs if a.regions == 10)
    assert (one.stride(), other.stride()) == ((0, 0), (20, 1))
    assert torch.equal(one, other)


def test_a_single_number_of_odd_stride(tmp_path):
    circuit = Circuit(Normal(0, torch.zeros(1).expand(1, 1), torch.ones(3, 3).T[:1, :1]))
    save(circuit, tmp_path / "c.pc")
    assert_same(circuit, load(tmp_path / "c.pc"))


def test_a_chain_of_ten_thousand(tmp_path):
    unit: Units = Bernoulli(0, 0.5)
    for _ in range(10_000):
        unit = mixture([1.0], [unit])
    save(Circuit(unit), tmp_path / "c.pc")
    assert len(load(tmp_path / "c.pc").arrays) == 10_001


def test_many_scalar_units_take_seconds(tmp_path):
    """A hundred thousand take 2 s to save and 4 s to load on one core; this is a tenth of that, with a wide margin."""
    leaves = [[Bernoulli(v, (k + 1) / 30) for k in range(25)] for v in range(100)]
    while len(leaves) > 1:
        pairs = [list(zip(a, b, strict=True)) for a, b in zip(leaves[::2], leaves[1::2], strict=False)]
        rest = leaves[len(pairs) * 2 :]
        products = [[a * b for a, b in pair] for pair in pairs]
        leaves = [[mixture([0.25, 0.75], [p[k], p[k - 1]]) for k in range(25)] for p in products] + rest
    circuit = Circuit(mixture([0.04] * 25, leaves[0]))
    assert circuit.summary().units > 7_000
    start = time.perf_counter()
    save(circuit, tmp_path / "c.pc")
    again = load(tmp_path / "c.pc")
    assert time.perf_counter() - start < 20
    assert_same(circuit, again)
    assert len(held(again)) == len(held(circuit))


def test_unknown_families_and_sources_are_named(tmp_path):
    save(everything(), tmp_path / "c.pc")
    with pytest.raises(FileFormatError, match=r"the family 'Shifted' is not known here: .*types=\(Shifted,\)"):
        load(tmp_path / "c.pc", types=(Decoder,))
    with pytest.raises(FileFormatError, match=r"the source 'Decoder' is not known here: .*types=\(Decoder,\)"):
        load(tmp_path / "c.pc", types=(Shifted,))


def test_types_are_classes_of_families_and_sources(tmp_path):
    save(Circuit(Bernoulli("a", 0.5)), tmp_path / "c.pc")
    with pytest.raises(CircuitError, match="classes of families and of sources, not <class 'int'>"):
        load(tmp_path / "c.pc", types=(int,))
    other = type("Shifted", (Shifted,), {})
    with pytest.raises(CircuitError, match="two classes of the name Shifted"):
        load(tmp_path / "c.pc", types=(Shifted, other))


def test_a_source_whose_class_changed(tmp_path):
    circuit = Circuit(mixture([0.25] * 4, Input(NormalFamily(), [(0,), (1,), (2,)], Sourced(decoder(), 3, 4)).prod()))
    save(circuit, tmp_path / "c.pc")
    other = type("Decoder", (nn.Module,), {"from_config": classmethod(lambda cls, config: cls())})
    with pytest.raises(FileFormatError, match="the source Decoder could not be rebuilt from its config"):
        load(tmp_path / "c.pc", types=(other,))


class Unsavable(nn.Module):
    def parameters_for(self, columns):
        return {"loc": torch.zeros(1, len(columns)), "scale": torch.ones(1, len(columns))}


class WithoutJson(Unsavable):
    def to_config(self):
        return {"device": torch.device("cpu")}

    @classmethod
    def from_config(cls, config):
        return cls()


@pytest.mark.parametrize(
    ("source", "message"), [(Unsavable(), r"Unsavable cannot be saved: give it to_config"), (WithoutJson(), "as JSON")]
)
def test_sources_that_cannot_be_saved(tmp_path, source, message):
    circuit = Circuit(Input(NormalFamily(), [(0,)], Sourced(source, 1, 1)))
    with pytest.raises(FileFormatError, match=message):
        save(circuit, tmp_path / "c.pc")
    assert not list(tmp_path.iterdir())


class Unnamed(NormalFamily):
    """A subclass that is no dataclass of its own, and takes the name of nobody."""


def test_a_family_of_a_user_never_passes_for_one_of_the_library(tmp_path):
    parameters = {"loc": Parameter(torch.zeros(1, 1), real), "scale": Normal(0, 0.0, 1.0).parameters["scale"]}
    save(Circuit(Input(Unnamed(), [(0,)], parameters)), tmp_path / "c.pc")
    with pytest.raises(FileFormatError, match="the family 'Unnamed' is not known"):
        load(tmp_path / "c.pc")
    assert type(load(tmp_path / "c.pc", types=(Unnamed,)).inputs[0].family) is Unnamed


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.pc")
    with pytest.raises(FileNotFoundError, match=r"the file was not written: .*nowhere"):
        save(Circuit(Bernoulli("a", 0.5)), tmp_path / "nowhere" / "c.pc")
    with pytest.raises(OSError, match="the file was not written"):
        save(Circuit(Bernoulli("a", 0.5)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "c.pc"
    save(Circuit(Bernoulli("a", 0.5)), path)
    before = path.read_bytes()
    large = Circuit(Normal(0, torch.zeros(1, 100_000), 1.0).sum([1e-5] * 100_000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))  # the disk is "full" after 50 kB
    try:
        with pytest.raises(OSError, match=r"the file was not written: .*c\.pc"):
            save(large, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_while_saving_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(Circuit(Bernoulli("a", 0.5)), tmp_path / "c.pc")
    assert not list(tmp_path.iterdir())


def test_header_is_padded_to_whole_words(tmp_path):
    save(everything(), tmp_path / "c.pc")
    (length,) = struct.unpack("<Q", (tmp_path / "c.pc").read_bytes()[:8])
    assert length % 8 == 0
