"""Files that are truncated, altered, of another version, or made up: each a `FileFormatError`, never anything else."""

import hashlib
import json
import random
import struct
import sys
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
import safetensors.torch
import torch

sys.path.insert(0, str(Path(__file__).parent))
from io_cases import TYPES, everything, with_marginalised_source

from pcircuits.circuit.circuit import Circuit
from pcircuits.circuit.leaves import Bernoulli, Normal
from pcircuits.errors import FileFormatError
from pcircuits.io import load, save
from pcircuits.io.container import read, write


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "c.pc"
    save(everything(), path)
    return path.read_bytes()


def refused(path: Path, raw: bytes, match: str | None = None) -> str:
    """The message with which a file is refused, which names the file."""
    path.write_bytes(raw)
    with pytest.raises(FileFormatError, match=match) as caught:
        load(path, types=TYPES)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def parts(raw: bytes) -> tuple[dict, bytes]:
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def assembled(header: dict, data: bytes) -> bytes:
    """A file with a digest that is right, whatever the header says."""
    header["__metadata__"]["digest"] = "0" * 64
    text = json.dumps(header, separators=(",", ":")).encode()
    raw = struct.pack("<Q", len(text)) + text + data
    return raw.replace(b"0" * 64, hashlib.sha256(raw).hexdigest().encode(), 1)


def test_reassembled_is_accepted(tmp_path, good):
    (tmp_path / "c.pc").write_bytes(assembled(*parts(good)))
    load(tmp_path / "c.pc", types=TYPES)


def test_every_flipped_byte_is_seen(tmp_path, good):
    rng = random.Random(0)
    for place in [*range(0, 64), *rng.sample(range(len(good)), 150), len(good) - 1]:
        raw = bytearray(good)
        raw[place] ^= 1 << rng.randrange(8)
        refused(tmp_path / "c.pc", bytes(raw))


def test_an_altered_parameter_is_named_as_such(tmp_path, good):
    refused(tmp_path / "c.pc", good[:-1] + bytes([good[-1] ^ 1]), "altered after it was saved")


def test_truncated(tmp_path, good):
    rng = random.Random(1)
    for length in [0, 1, 7, 8, 9, 100, *rng.sample(range(len(good)), 50), len(good) - 1]:
        refused(tmp_path / "c.pc", good[:length], "truncated")


def test_longer_than_declared(tmp_path, good):
    refused(tmp_path / "c.pc", good + b"\0" * 8, "damaged")


def test_something_else(tmp_path):
    refused(tmp_path / "c.pc", b"PK\3\4" + b"\0" * 100, "not a circuit file")
    refused(tmp_path / "c.pc", struct.pack("<Q", 40) + b"[1]" + b" " * 60, "not a circuit file")
    refused(tmp_path / "c.pc", struct.pack("<Q", 40) + b"{'a" + b" " * 60, "is not JSON")
    refused(tmp_path / "c.pc", struct.pack("<Q", 90_000) + b"{" + b"[" * 90_000, "is not JSON")
    safetensors.torch.save_file({"x": torch.zeros(3)}, tmp_path / "other")
    refused(tmp_path / "c.pc", (tmp_path / "other").read_bytes(), "but not of a circuit")


def test_newer_version(tmp_path, good):
    header, data = parts(good)
    header["__metadata__"]["version"] = "2"
    refused(tmp_path / "c.pc", assembled(header, data), r"version 2 of the format; this one reads up to 1: upgrade")


def test_a_family_of_a_newer_library(tmp_path, good):
    header, data = parts(good)
    structure = header["__metadata__"]["structure"]
    header["__metadata__"]["structure"] = structure.replace("pcircuits.Normal", "pcircuits.Stable")
    refused(tmp_path / "c.pc", assembled(header, data), "the library has no family 'Stable' here: upgrade")


def test_a_header_that_was_written_anew(tmp_path, good):
    header, data = parts(good)
    text = json.dumps(header).encode()
    refused(tmp_path / "c.pc", struct.pack("<Q", len(text)) + text + data, "its digest is not in the one place for it")


@pytest.mark.parametrize(
    "raw",
    [
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 99_999_999) + b"{}" * 40,
    ],
)
def test_a_huge_header_is_refused_before_memory_is_taken(tmp_path, raw):
    tracemalloc.start()
    refused(tmp_path / "c.pc", raw, "its header would take")
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("shape", [[2**47], [2**40, 2**40], [0, 2**47], [2**63], [-1], [1.0], [True], "x", None])
def test_a_huge_or_impossible_tensor_is_refused_before_memory_is_taken(tmp_path, good, shape):
    header, data = parts(good)
    header["kinds"]["shape"] = shape
    refused(tmp_path / "c.pc", assembled(header, data), "the header is malformed")
    header["kinds"]["data_offsets"] = [0, 2**47 * 8]
    refused(tmp_path / "c.pc", assembled(header, data), "the header is malformed|truncated")


def test_overlapping_tensors(tmp_path, good):
    header, data = parts(good)
    one, other = (header[name]["data_offsets"] for name in ("kinds", "child_counts"))
    assert one[1] - one[0] == other[1] - other[0]
    header["kinds"]["data_offsets"] = other
    refused(tmp_path / "c.pc", assembled(header, data), "header is malformed .*(kinds|child_counts)")


def test_values_that_stand_for_too_many(tmp_path):
    save(Circuit(Normal(range(100), 0.0, 1.0).prod()), tmp_path / "c.pc")
    structure, tensors = read(tmp_path / "c.pc")
    tensors["parameter_sizes"][:2] = torch.tensor([100, 2**38])
    rewrite_and_refuse(tmp_path / "d.pc", structure, tensors, "values of shape .* stand for")


def rewrite_and_refuse(path: Path, structure, tensors, match=None):
    write(path, structure, tensors)
    refused(path, path.read_bytes(), match)


@pytest.mark.parametrize(
    ("table", "place", "value", "message"),
    [
        ("children", 0, 10_000, "children that do not precede it"),
        ("children", -1, -1, "children that do not precede it"),
        ("child_counts", 3, -1, "does not have a row for each array"),
        ("integer_counts", 0, 2**62, "does not have a row for each array"),
        ("integers", 0, 99, "its family is not in the file"),
        ("integers", 1, -1, "parameter -1 is not in the file"),
        ("kinds", 0, 77, "no arrays of kind 77"),
        ("parameters", 1, 9, "an entry out of range"),
        ("parameter_sizes", 0, -5, "a parameter has the shape"),
        ("parameter_sizes", 0, 0, "a parameter has the shape"),
    ],
)
def test_impossible_structures(tmp_path, good, table, place, value, message):
    (tmp_path / "c.pc").write_bytes(good)
    structure, tensors = read(tmp_path / "c.pc")
    tensors[table][place] = value
    rewrite_and_refuse(tmp_path / "d.pc", structure, tensors, message)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("value", [-1, 5])
def test_wiring_to_units_that_do_not_exist(tmp_path, place, value):
    pixels = Normal(0, torch.zeros(1, 3), 1.0)
    for wired, which in ((pixels[0, [2]], place), (pixels[0], min(place, 1))):
        save(Circuit(wired.sum([1.0] * wired.width)), tmp_path / "c.pc")
        structure, tensors = read(tmp_path / "c.pc")
        tensors["integers"][int(tensors["integer_counts"][0]) + which] = value
        rewrite_and_refuse(tmp_path / "d.pc", structure, tensors)


def test_a_cycle(tmp_path):
    save(Circuit(0.5 * Bernoulli("a", 0.5) + 0.5 * Bernoulli("a", 0.1)), tmp_path / "c.pc")
    structure, tensors = read(tmp_path / "c.pc")
    tensors["children"][0] = 2
    rewrite_and_refuse(tmp_path / "d.pc", structure, tensors, "array 2 has children that do not precede it")


def test_a_parameter_outside_its_constraint(tmp_path):
    save(Circuit(Bernoulli("a", 0.5)), tmp_path / "c.pc")
    structure, tensors = read(tmp_path / "c.pc")
    tensors["values.float64"][0] = 1.5
    rewrite_and_refuse(tmp_path / "d.pc", structure, tensors, r"probs of .* is 1.5: it must be in \[0, 1\]")


def test_outer_products_wider_than_can_be(tmp_path):
    unit = Normal(0, torch.zeros(1, 4), 1.0).outer(Bernoulli(2, 0.5))
    save(Circuit(unit.sum([0.25] * 4)), tmp_path / "c.pc")
    structure, tensors = read(tmp_path / "c.pc")
    tensors["kinds"] = torch.tensor([0, 0, *[5] * 64, 8])
    tensors["child_counts"] = torch.tensor([0, 0, *[2] * 64, 1])
    tensors["children"] = torch.tensor([i for n in range(64) for i in (n + 1, n + 1)] + [65])
    first = tensors["integers"][: tensors["integer_counts"][:2].sum()]
    tensors["integer_counts"] = torch.tensor([*tensors["integer_counts"][:2].tolist(), *[0] * 64, 2])
    tensors["integers"] = torch.cat([first, torch.tensor([0, 0])])
    rewrite_and_refuse(tmp_path / "d.pc", structure, tensors)


NUMBERS = [-1, 0, 1, 2, 3, 7, 10**6, 2**31, 2**40, 2**62, -(2**63)]
JSON = [None, True, -1, 0, 3, 1.5, 10**30, "", "x", [], {}, [[]], {"a": 1}]


def survives(path: Path) -> None:
    """A file is loaded or refused: no other exception, whatever it holds."""
    with suppress(FileFormatError):
        load(path, types=TYPES)


def mutate_json(value, rng: random.Random):
    """JSON with one part replaced, dropped or repeated."""
    if isinstance(value, dict | list) and value and rng.random() < 0.9:
        copy = dict(value) if isinstance(value, dict) else list(value)
        key = rng.choice(list(copy)) if isinstance(copy, dict) else rng.randrange(len(copy))
        if rng.random() < 0.2:
            copy.pop(key)
        elif rng.random() < 0.1 and isinstance(copy, list):
            copy.insert(key, copy[key])
        else:
            copy[key] = mutate_json(copy[key], rng)
        return copy
    return rng.choice(JSON)


@pytest.mark.parametrize("make", [everything, with_marginalised_source])
def test_fuzzed_tables_with_a_right_digest(tmp_path, make):
    rng = random.Random(2)
    save(make(), tmp_path / "good.pc")
    for _ in range(250):
        structure, tensors = read(tmp_path / "good.pc")
        for _ in range(rng.choice([1, 1, 1, 3])):
            name = rng.choice([n for n in tensors if not n.startswith("values")] * 5 + list(tensors))
            tensor, kind = tensors[name], rng.random()
            if kind < 0.7 and tensor.dtype == torch.int64 and tensor.numel():
                flat = tensor.view(-1)
                place = rng.randrange(len(flat))
                step = rng.choice([-1, 1, int(flat[place])]) if rng.random() < 0.5 else 0
                flat[place] = flat[place] + step if step else rng.choice(NUMBERS)
            elif kind < 0.8 and tensor.is_floating_point() and tensor.numel():
                tensor.view(-1)[rng.randrange(tensor.numel())] = rng.choice([-1.0, 0.0, float("nan"), float("inf")])
            elif kind < 0.9:
                tensors[name] = tensor.reshape(-1)[: rng.randrange(tensor.numel() + 1)]
            elif kind < 0.95:
                tensors[name] = tensor.to(rng.choice([torch.float32, torch.int32, torch.bool]))
            else:
                del tensors[name]
                break
        write(tmp_path / "c.pc", structure, tensors)
        survives(tmp_path / "c.pc")


@pytest.mark.parametrize("make", [everything, with_marginalised_source])
def test_fuzzed_structure_with_a_right_digest(tmp_path, make):
    rng = random.Random(3)
    save(make(), tmp_path / "good.pc")
    structure, tensors = read(tmp_path / "good.pc")
    for _ in range(200):
        write(tmp_path / "c.pc", mutate_json(structure, rng), tensors)
        survives(tmp_path / "c.pc")


def test_fuzzed_header_with_a_right_digest(tmp_path, good):
    rng = random.Random(4)
    header, data = parts(good)
    for _ in range(200):
        mutant = mutate_json(header, rng)
        if isinstance(mutant, dict) and isinstance(mutant.get("__metadata__"), dict):
            (tmp_path / "c.pc").write_bytes(assembled(mutant, data))
            survives(tmp_path / "c.pc")


def test_fuzzed_bytes(tmp_path, good):
    rng = random.Random(5)
    for _ in range(150):
        raw = bytearray(good)
        for _ in range(rng.randrange(1, 5)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        if rng.random() < 0.3:
            raw = raw[: rng.randrange(len(raw))]
        if bytes(raw) != good:
            refused(tmp_path / "c.pc", bytes(raw))
