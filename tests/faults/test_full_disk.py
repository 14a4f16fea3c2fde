"""No writer leaves half a file, or anything else, where there is no space for it."""

import errno
import resource

import pytest
import torch
from matplotlib.figure import Figure

import pcircuits as pc
from pcircuits.learning.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pcircuits.learning.history import EpochRecord, write_csv
from vq_sources.cli.selecting import write_selection
from vq_sources.codes import CodeSet, Provenance
from vq_sources.models import VQVAE, VQVAEConfig, save_model
from vq_sources.report import write_json
from vq_sources.report.drawing import save_figure

pytestmark = pytest.mark.errors
SPACE = 400
"""Bytes that a file may have: fewer than any of these files needs."""


def circuit(path):
    pc.save(pc.Circuit(pc.Normal(range(50), torch.zeros(50, 3), 1.0).prod().sum([0.2, 0.3, 0.5])), path)


def checkpoint(path):
    save_checkpoint(path, Checkpoint({"settings": {}}, {"w": torch.zeros(500_000)}, {}, {}, ()))


def model(path):
    save_model(VQVAE(VQVAEConfig(), generator=torch.Generator().manual_seed(0)), path)


def report(path):
    write_json(path, {"rows": list(range(1000))})


def picture(path):
    figure = Figure()
    figure.subplots().plot([0, 1])
    save_figure(figure, path)


def codes(path):
    every = torch.cartesian_prod(*[torch.arange(2)] * 6)
    weights = torch.full((64,), 1 / 64, dtype=torch.float64).log()
    write_selection(path, CodeSet(every, weights, (2, 3), (2,) * 6, Provenance("enumerate", None, 64, 64, "")))


def table(path):
    write_csv(path, [EpochRecord(epoch, 0.1, 0.2, 0.3, 0.4) for epoch in range(200)])


@pytest.fixture
def little_space():
    """Files of this process stay small: what goes beyond is refused, as by a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SPACE, hard))
    yield lambda size=soft: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("old", [b"old", None], ids=["over a file", "new"])
@pytest.mark.parametrize("put", [circuit, checkpoint, model, report, picture, codes, table], ids=lambda f: f.__name__)
def test_all_or_nothing_and_again(put, old, tmp_path, little_space):
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(OSError, match="the file was not written: File too large") as caught:
        put(path)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([] if old is None else [old])
    little_space()  # there is space again
    put(path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_size > SPACE


def test_a_disk_that_is_full_in_the_middle_of_a_checkpoint(tmp_path, little_space):
    """There torch's own writer of files says only that a position is unexpected."""
    little_space(100_000)
    with pytest.raises(OSError, match="the file was not written: File too large"):
        checkpoint(tmp_path / "c.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_comes_back(tmp_path):
    checkpoint(tmp_path / "c.pt")
    assert torch.equal(load_checkpoint(tmp_path / "c.pt").module["w"], torch.zeros(500_000))
