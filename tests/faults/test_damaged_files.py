"""Files of every kind, cut anywhere and with any bytes altered: each is refused by name, or read as it was."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

import pcircuits as pc
from pcircuits.errors import CircuitError, FileFormatError
from pcircuits.learning.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from vq_sources.cli.selecting import read_selection, write_selection
from vq_sources.codes import CodeSet, Provenance
from vq_sources.models import VQVAE, VQVAEConfig, load_model, save_model
from vq_sources.priors import PixelCNN, PixelCNNConfig

pytestmark = pytest.mark.errors
KNOWN = {"VQVAE": (VQVAEConfig, VQVAE), "PixelCNN": (PixelCNNConfig, PixelCNN.from_config)}
FUZZED = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


def write_circuit(path):
    units = pc.Categorical(["a", "b"], torch.softmax(torch.arange(12.0).reshape(2, 2, 3), -1)).prod()
    pc.save(pc.Circuit(0.5 * units.sum([0.25, 0.75]) + 0.5 * units[0, 1]), path)


def write_prior(path):
    prior = PixelCNN((2, 2), 3, hidden=4, generator=torch.Generator().manual_seed(0))
    save_model(prior, path)


def write_codes(path):
    every = torch.cartesian_prod(*[torch.arange(2)] * 4)
    logs = torch.full((16,), 1 / 16, dtype=torch.float64).log()
    write_selection(path, CodeSet(every, logs, (2, 2), (2,) * 4, Provenance("beam", 1, 16, 16, "x", {"width": 3})))


def write_checkpoint(path):
    save_checkpoint(path, Checkpoint({"settings": {"lr": "0.1"}}, {"w": torch.arange(5.0)}, {"step": 3}, {}, ()))


KINDS = {
    "circuit": (write_circuit, pc.load),
    "model": (write_prior, lambda path: load_model(path, KNOWN)),
    "selection": (write_codes, read_selection),
    "checkpoint": (write_checkpoint, load_checkpoint),
}


@dataclass(frozen=True)
class Case:
    """A whole file, what reads it, and where its broken copies go."""

    whole: bytes
    path: Path
    name: str

    def read(self, raw: bytes) -> object:
        """What is read, or the error that refuses the file, which names it."""
        self.path.unlink(missing_ok=True)  # what safetensors loads is a view of the file
        self.path.write_bytes(raw)
        try:
            return KINDS[self.name][1](self.path)
        except (CircuitError, CheckpointError) as error:
            refusal = error
        assert str(self.path) in str(refusal), refusal
        return refusal


@pytest.fixture(scope="module", params=list(KINDS))
def case(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param) / "file"
    KINDS[request.param][0](path)
    return Case(path.read_bytes(), path, request.param)


def test_whole_files_are_read(case):
    assert not isinstance(case.read(case.whole), Exception)


def test_every_length(case):
    """Each of the first bytes and of the last, and every hundredth between: none is a whole file."""
    size = len(case.whole)
    for length in {*range(min(size, 80)), *range(80, size, max(1, size // 100)), *range(size - 20, size)}:
        assert isinstance(case.read(case.whole[:length]), CircuitError | CheckpointError), length


@FUZZED
@given(st.data())
def test_altered_bytes(case, data):
    """A circuit or a checkpoint is refused; a file without a digest is refused or has another number somewhere."""
    raw = bytearray(case.whole)
    (header,) = struct.unpack("<Q", raw[:8])
    least = data.draw(st.sampled_from([0, 0, 8]))
    most = data.draw(st.sampled_from([len(raw) - 1, min(len(raw) - 1, 8 + header)]))
    for place in data.draw(st.lists(st.integers(least, max(least, most)), min_size=1, max_size=4)):
        raw[place] ^= data.draw(st.integers(1, 255))
    if data.draw(st.integers(0, 4)) == 4:
        raw = raw[: data.draw(st.integers(0, len(raw)))]
    found = case.read(bytes(raw))
    if case.name == "circuit" and bytes(raw) != case.whole:
        assert isinstance(found, FileFormatError)


JSON = st.one_of(
    st.none(), st.booleans(), st.sampled_from([-1, 0, 1, 3, 1.5, 10**30, "", "x"]), st.just([]), st.just({})
)


def altered(draw, value):
    """JSON with one part replaced or dropped."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 9)):
        copy = dict(value) if isinstance(value, dict) else list(value)
        key = draw(st.sampled_from(list(copy) if isinstance(copy, dict) else range(len(copy))))
        if draw(st.integers(0, 4)) == 4:
            copy.pop(key)
        else:
            copy[key] = altered(draw, copy[key])
        return copy
    return draw(JSON)


@FUZZED
@given(st.data())
def test_altered_metadata(tmp_path_factory, data):
    """Whole safetensors files whose metadata says something else."""
    name, key = data.draw(st.sampled_from([("model", "config"), ("model", "version"), ("selection", "code_set")]))
    path = tmp_path_factory.getbasetemp() / f"metadata-{name}"
    path.unlink(missing_ok=True)
    KINDS[name][0](path)
    whole = path.read_bytes()
    metadata = json.loads(whole[8 : 8 + struct.unpack("<Q", whole[:8])[0]])["__metadata__"]
    metadata[key] = json.dumps(altered(data.draw, json.loads(metadata[key])))
    tensors = {name: tensor.clone() for name, tensor in load(whole).items()}
    if data.draw(st.integers(0, 4)) == 4:
        tensors.pop(data.draw(st.sampled_from(sorted(tensors))))
    if tensors:
        Case(whole, path, name).read(save(tensors, metadata))
