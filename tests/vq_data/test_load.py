"""Data sets by name: disjoint fixed splits, and clear errors for files that are missing or corrupt."""

import builtins
import gzip
import os
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from pcircuits.errors import CircuitError
from vq_sources.data import Split, load
from vq_sources.data.splits import fixed_order, stratified_order
from vq_sources.errors import DataError


def rows(split: Split) -> list[bytes]:
    return [image.numpy().tobytes() for image in split.images]


def test_digits_are_all_images_of_the_source_in_disjoint_splits() -> None:
    data = load("digits")
    source = load_digits()
    expected = sorted(
        (int(label), image.astype("int64").tobytes()) for image, label in zip(source.images, source.target, strict=True)
    )
    splits = (data.train, data.validation, data.test)
    found = sorted(
        (int(label), image) for split in splits for image, label in zip(rows(split), split.labels, strict=True)
    )
    assert found == expected
    assert [len(split) for split in splits] == [1200, 237, 360]
    assert (data.name, data.levels, data.shape, data.num_classes) == ("digits", 17, (8, 8), 10)
    assert all(split.images.dtype == split.labels.dtype == torch.int64 for split in splits)
    assert int(data.train.images.max()) == 16


def test_digits_have_every_class_in_its_share_in_every_split() -> None:
    data = load("digits")
    share = torch.bincount(torch.cat([s.labels for s in (data.train, data.validation, data.test)])) / 1797
    for split in (data.train, data.validation, data.test):
        counts = torch.bincount(split.labels, minlength=10)
        assert bool((counts - share * len(split)).abs().max() <= 2)


def test_splits_never_change() -> None:
    data = load("digits")
    assert fixed_order(10).tolist() == [3, 4, 1, 0, 7, 2, 6, 5, 9, 8]
    assert data.train.labels[:12].tolist() == [3, 1, 5, 4, 6, 9, 7, 0, 2, 8, 3, 1]
    assert [int(split.images.sum()) for split in (data.train, data.validation, data.test)] == [375943, 73481, 112294]


def test_a_stratified_order_is_a_permutation_with_stratified_prefixes() -> None:
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    order = stratified_order(labels)
    assert sorted(order.tolist()) == list(range(100))
    for n in range(1, 101):
        counts = torch.bincount(labels[order[:n]], minlength=3)
        assert bool((counts - n * torch.tensor([0.6, 0.3, 0.1])).abs().max() <= 1)


def write_idx(path: Path, values: Tensor) -> None:
    """The format of LeCun's files: big-endian magic number 0x08 (bytes) and rank, sizes, values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(header + values.to(torch.uint8).numpy().tobytes())


def write_files(raw: Path, train: int = 12, test: int = 5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    values = {
        "train-images-idx3-ubyte": torch.randint(256, (train, 28, 28), generator=generator),
        "train-labels-idx1-ubyte": torch.arange(train) % 10,
        "t10k-images-idx3-ubyte": torch.randint(256, (test, 28, 28), generator=generator),
        "t10k-labels-idx1-ubyte": torch.arange(test) % 10,
    }
    for name, value in values.items():
        write_idx(raw / name, value)
    return values


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion", "FashionMNIST")])
def test_idx_files_become_splits(tmp_path: Path, name: str, folder: str) -> None:
    values = write_files(tmp_path / folder / "raw")
    data = load(name, root=tmp_path)
    assert (data.name, data.levels, data.shape, data.num_classes) == (name, 256, (28, 28), 10)
    assert (len(data.train), len(data.validation), len(data.test)) == (10, 2, 5)
    assert torch.equal(data.test.images, values["t10k-images-idx3-ubyte"])
    assert torch.equal(data.test.labels, values["t10k-labels-idx1-ubyte"])
    order = fixed_order(12)
    images = torch.cat([data.train.images, data.validation.images])
    labels = torch.cat([data.train.labels, data.validation.labels])
    assert torch.equal(images, values["train-images-idx3-ubyte"][order])
    assert torch.equal(labels, values["train-labels-idx1-ubyte"][order])


def test_the_root_comes_from_the_argument_then_the_environment_then_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path / "here" / "MNIST" / "raw")
    monkeypatch.setenv("PCIRCUITS_DATA_ROOT", str(tmp_path / "here"))
    assert len(load("mnist").test) == 5
    with pytest.raises(DataError, match="elsewhere"):
        load("mnist", root=tmp_path / "elsewhere")
    monkeypatch.delenv("PCIRCUITS_DATA_ROOT")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"\.data/MNIST/raw"):
        load("mnist")


FAULTS = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "header only": lambda path: path.write_bytes(path.read_bytes()[:4]),
    "too long": lambda path: path.write_bytes(path.read_bytes() + b"x" * 50),
    "another format": lambda path: path.write_bytes(gzip.compress(path.read_bytes())),
    "of another type": lambda path: path.write_bytes(b"\0\0\x0d\3" + path.read_bytes()[4:]),
    "of another shape": lambda path: write_idx(path, torch.zeros(12, 14, 14)),
    "without images": lambda path: write_idx(path, torch.zeros(0, 28, 28)),
    "of other length than the labels": lambda path: write_idx(path, torch.zeros(11, 28, 28)),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_files_that_are_missing_or_corrupt_name_the_root_and_the_remedy(tmp_path: Path, fault: str) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    write_files(raw)
    FAULTS[fault](raw / "train-images-idx3-ubyte")
    with pytest.raises(DataError, match="missing or corrupt") as caught:
        load("fashion", root=tmp_path)
    assert str(raw) in str(caught.value)
    assert "--download" in str(caught.value)
    assert isinstance(caught.value, CircuitError)


def test_labels_beyond_the_classes_are_corrupt(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    write_files(raw)
    write_idx(raw / "t10k-labels-idx1-ubyte", torch.tensor([0, 1, 2, 3, 10]))
    with pytest.raises(DataError, match="test files of 'mnist'"):
        load("mnist", root=tmp_path)


def test_a_failed_download_is_a_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets

    def offline(self: Any) -> None:
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", offline)
    with pytest.raises(DataError, match="Error downloading"):
        load("mnist", root=tmp_path, download=True)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match="'digits', 'mnist', 'fashion'"):
        load("cifar")


@pytest.mark.parametrize(("name", "package"), [("digits", "sklearn"), ("mnist", "torchvision")])
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, name: str, package: str) -> None:
    monkeypatch.setitem(sys.modules, f"{package}.datasets", None)
    with pytest.raises(ImportError, match=r"pcircuits\[vq\]"):
        load(name)


def test_a_torchvision_of_another_torch_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    plain_import = builtins.__import__

    def mismatched(name: str, *rest: Any) -> Any:
        if name == "torchvision.datasets":
            raise RuntimeError("operator torchvision::nms does not exist")
        return plain_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", mismatched)
    with pytest.raises(ImportError, match="does not fit this torch"):
        load("mnist")


@pytest.mark.needs_images
@pytest.mark.parametrize("name", ["mnist", "fashion"])
def test_the_real_files(name: str) -> None:
    data = load(name, root=os.environ["PCIRCUITS_DATA_ROOT"])
    assert [len(split) for split in (data.train, data.validation, data.test)] == [50_000, 10_000, 10_000]
    labels = torch.cat([data.train.labels, data.validation.labels])
    if name == "fashion":
        assert torch.bincount(labels).tolist() == [6000] * 10
    else:
        assert torch.bincount(labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert int(data.train.images.max()) == 255
