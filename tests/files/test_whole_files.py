"""Files that are whole or absent, and that others may read."""

import errno
import os
import resource
import stat
from pathlib import Path

import pytest
import torch

import pcircuits as pc
from pcircuits.files import replacing, write_whole
from vq_sources.models import VQVAE, VQVAEConfig, save_model

pytestmark = pytest.mark.errors


def with_block(path, content):
    with replacing(path) as file:
        file.write(content)


def with_function(path, content):
    write_whole(path, lambda file: file.write(content))


both = pytest.mark.parametrize("put", [with_block, with_function])


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_modes_are_those_that_the_user_gives_new_files(tmp_path, umask):
    with_block(tmp_path / "block", b"x")
    with_function(tmp_path / "function", b"x")
    pc.save(pc.Circuit(pc.Bernoulli("a", 0.5)), tmp_path / "c.pc")
    save_model(VQVAE(VQVAEConfig(), generator=torch.Generator().manual_seed(0)), tmp_path / "model")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("block", "function", "c.pc", "model"), 0o666 & ~umask)


@both
def test_a_full_disk_leaves_the_old_file(put, tmp_path):
    path = tmp_path / "file"
    put(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match=r"the file was not written: File too large: .*file'") as caught:
            put(path, b"new" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@both
def test_a_failure_of_the_writer_leaves_the_old_file(put, tmp_path):
    path = tmp_path / "file"
    put(path, b"old")
    with pytest.raises(TypeError):
        put(path, "not bytes")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@both
def test_a_file_where_a_folder_is_needed(put, tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(NotADirectoryError, match=r"the file was not written: Not a directory: .*file/new'"):
        put(tmp_path / "file" / "new", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"


@both
def test_a_folder_that_nobody_can_write(put):
    with pytest.raises(OSError, match=r"the file was not written: .*/proc/new'"):
        put(Path("/proc/new"), b"new")


def test_two_writers_do_not_mix(tmp_path):
    with replacing(tmp_path / "file") as one, replacing(tmp_path / "file") as two:
        one.write(b"one")
        two.write(b"two, longer")
    assert (tmp_path / "file").read_bytes() == b"one"


def test_what_a_killed_process_left_is_overwritten(tmp_path):
    (tmp_path / "file.tmp").write_bytes(b"half of a much longer file")
    with_function(tmp_path / "file", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"whole"
