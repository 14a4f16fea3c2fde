"""Models are saved as what they know now; circuits are saved to and loaded from files that are open already."""

import io
import json
import math
import tempfile

import pytest
import torch

import pcircuits as pc

ROW = torch.tensor([[1.0]])


def coin():
    return pc.Circuit(pc.mixture([0.5, 0.5], [pc.Bernoulli("a", 0.1), pc.Bernoulli("a", 0.9)]))


def trained():
    model = coin().compile(dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(5):
        optimizer.zero_grad()
        (-model.log_prob(ROW)).sum().backward()
        optimizer.step()
    return model


def test_a_model_is_saved_as_it_is_now(tmp_path):
    model = trained()
    pc.save(model, tmp_path / "m.pc")
    again = pc.load(tmp_path / "m.pc").compile(dtype=torch.float64)
    assert again.log_prob(ROW).item() == pytest.approx(model.log_prob(ROW).item(), rel=1e-12)
    assert again.log_prob(ROW).item() > math.log(0.5) + 0.1  # the circuit it was compiled from says 0.5


def test_files_in_memory(tmp_path):
    file = io.BytesIO()
    pc.save(coin(), file)
    pc.save(coin(), tmp_path / "c.pc")
    assert file.getvalue() == (tmp_path / "c.pc").read_bytes()
    again = pc.load(io.BytesIO(file.getvalue()))
    assert str(again.summary()) == str(coin().summary())


def test_open_files_are_used_from_where_they_stand(tmp_path):
    with open(tmp_path / "c.pc", "wb") as file:
        file.write(b"a header of another kind")
        pc.save(coin(), file)
        assert not file.closed
    with open(tmp_path / "c.pc", "rb") as file:
        with pytest.raises(pc.FileFormatError, match=rf"{tmp_path}/c.pc: not a circuit file"):
            pc.load(file)
        file.seek(len(b"a header of another kind"))
        assert pc.load(file).variables == ("a",)


def test_what_can_only_be_written_forwards():
    class Pipe:
        def __init__(self):
            self.parts = []

        def write(self, data):
            self.parts.append(bytes(data))

    pipe = Pipe()
    pc.save(coin(), pipe)
    assert pc.load(io.BytesIO(b"".join(pipe.parts))).variables == ("a",)


def test_a_temporary_file():
    with tempfile.TemporaryFile() as file:
        pc.save(trained(), file)
        file.seek(0)
        assert pc.load(file).variables == ("a",)


def test_damage_in_memory_is_seen():
    file = io.BytesIO()
    pc.save(coin(), file)
    raw = file.getvalue()
    with pytest.raises(pc.FileFormatError, match="altered after it was saved"):
        pc.load(io.BytesIO(raw[:-1] + bytes([raw[-1] ^ 1])))
    with pytest.raises(pc.FileFormatError, match="truncated"):
        pc.load(io.BytesIO(raw[:-1]))
    length = int.from_bytes(raw[:8], "little")
    assert len(json.loads(raw[8 : 8 + length])["__metadata__"]["digest"]) == 64


@pytest.mark.errors
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pc.save(pc.Bernoulli("a", 0.5), "x.pc"), r"got Input: make one with pcircuits.Circuit\(units\)"),
        (lambda: pc.save(coin(), 3), "save: expected a path or an open binary file, got int"),
        (lambda: pc.load(3), "load: expected a path or an open binary file, got int"),
        (lambda: pc.load(None), "load: expected a path or an open binary file, got NoneType"),
    ],
)
def test_what_is_neither(call, message):
    with pytest.raises(pc.CircuitError, match=message):
        call()
