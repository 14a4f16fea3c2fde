"""A teacher and its prior in a folder of results: trained once, resumed where they were, read ever after."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

import vq_sources as vq
from pcircuits.errors import FileFormatError
from pcircuits.learning import History
from vq_sources.cli.recipe import Recipe
from vq_sources.cli.voice import Voice
from vq_sources.cli.workspace import Workspace
from vq_sources.data import Dataset, EncodedDataset, EncodedSplit, Split
from vq_sources.errors import ConfigError, DataError
from vq_sources.models.files import load_model, save_model
from vq_sources.priors import PixelCNN, PixelCNNConfig
from vq_sources.report import write_bytes

__all__ = [
    "CODES_FILE",
    "LONGER_TRAINING",
    "PRIOR_FILE",
    "TEACHER_FILE",
    "Training",
    "read_codes",
    "read_prior",
    "read_teacher",
    "read_train_codes",
]

TEACHER_FILE, PRIOR_FILE, CODES_FILE = "vqvae.safetensors", "prior.safetensors", "codes.safetensors"
LONGER_TRAINING = {
    "model_fit.epochs": (
        "stages/vqvae.json",
        "stages/codes.json",
        "stages/prior.json",
        "training/prior",
        "report.json",
    ),
    "prior_fit.epochs": ("stages/prior.json", "report.json"),
}
"""Settings of a folder that may become larger, and the results that are then made anew: another VQ-VAE has other codes, and
their prior cannot go on from that of the old ones."""
_SPLITS = ("train", "validation", "test")


class Training:
    """A VQ-VAE, its codes and their prior, in a folder of results; each is there, or made, when it is asked for.

    **Arguments**

    - `workspace`: the open folder.
    - `recipe`: what to train.
    - `data_root`, `download`: where the data set is; see `vq_sources.load`.
    - `voice`: who says how far it is.
    """

    def __init__(
        self, workspace: Workspace, recipe: Recipe, data_root: Path | None, download: bool, voice: Voice
    ) -> None:
        self.workspace = workspace
        self.recipe = recipe
        self.voice = voice
        self._data_root = data_root
        self._download = download

    @cached_property
    def data(self) -> Dataset:
        """The images, as many as the recipe says; the same ones as in earlier runs into this folder."""
        recipe = self.recipe
        whole = vq.load(recipe.dataset, root=self._data_root, download=self._download)
        data = replace(
            whole, train=_first(whole.train, recipe.train_images), test=_first(whole.test, recipe.test_images)
        )
        facts = {
            "name": data.name,
            "levels": data.levels,
            "shape": list(data.shape),
            "classes": data.num_classes,
            **{name: _checksum(getattr(data, name)) for name in _SPLITS},
        }
        if self.workspace.stage("data", lambda: facts)[0] != facts:
            raise DataError(
                f"{self.workspace.folder} was made from other images of {recipe.dataset!r} than those that are found now: "
                "choose another folder with --out"
            )
        return data

    @cached_property
    def teacher(self) -> vq.VQVAE:
        """The VQ-VAE, with the weights of its best validation loss."""
        self.teacher_facts()
        return read_teacher(self.workspace.folder).to(self.recipe.device)

    @cached_property
    def prior(self) -> PixelCNN:
        """The prior, likewise."""
        self.prior_facts()
        return read_prior(self.workspace.folder).to(self.recipe.device)

    @cached_property
    def codes(self) -> EncodedDataset:
        """The codes of all images, encoded once."""
        self.codes_facts()
        return read_codes(self.workspace.folder, self.data)

    def data_facts(self) -> dict[str, Any]:
        """What the images are, with a checksum of each split."""
        if not self.workspace.done("data"):
            _ = self.data
        return self.workspace.stage("data", dict)[0]

    def teacher_facts(self) -> dict[str, Any]:
        """How the training of the VQ-VAE went."""
        return self.workspace.stage("vqvae", self._train_teacher, [TEACHER_FILE])[0]

    def prior_facts(self) -> dict[str, Any]:
        """How the training of the prior went."""
        return self.workspace.stage("prior", self._train_prior, [PRIOR_FILE])[0]

    def codes_facts(self) -> dict[str, Any]:
        """The use of the codebook over each split."""
        return self.workspace.stage("codes", self._encode, [CODES_FILE])[0]

    def _train_teacher(self) -> dict[str, Any]:
        recipe = self.recipe
        model = vq.VQVAE(recipe.model, torch.Generator().manual_seed(recipe.seed_for("teacher")))
        with self.voice.step(f"training the VQ-VAE on {len(self.data.train):,} images") as say:
            history = vq.fit(
                model,
                self.data,
                recipe.model_fit,
                folder=self.workspace.path("training/vqvae"),
                on_epoch=Voice.epochs(recipe.model_fit.epochs, say),
            )
        save_model(model, self.workspace.path(TEACHER_FILE))
        return {**_history_facts(history), "parameters": _numbers(model)}

    def _train_prior(self) -> dict[str, Any]:
        recipe = self.recipe
        prior = PixelCNN.from_config(recipe.prior, torch.Generator().manual_seed(recipe.seed_for("prior")))
        codes = self.codes
        with self.voice.step(f"training the prior on {len(codes.train):,} codes") as say:
            history = vq.fit(
                prior,
                codes,
                recipe.prior_fit,
                folder=self.workspace.path("training/prior"),
                on_epoch=Voice.epochs(recipe.prior_fit.epochs, say),
            )
        save_model(prior, self.workspace.path(PRIOR_FILE))
        return {**_history_facts(history), "parameters": _numbers(prior), "identity": prior.identity}

    def _encode(self) -> dict[str, Any]:
        with self.voice.step("encoding the images"):
            encoded = vq.encode(self.teacher, self.data)
        splits = {name: getattr(encoded, name).codes.contiguous() for name in _SPLITS}
        write_bytes(self.workspace.path(CODES_FILE), save(splits))
        count = self.recipe.model.num_codes
        return {name: asdict(vq.codebook_report(codes, count)) for name, codes in splits.items()}


def read_teacher(folder: Path) -> vq.VQVAE:
    """The VQ-VAE of a folder that `train` or `demo` made.

    **Raises** `ConfigError` where there is none yet, `FileFormatError` for a file that is damaged.
    """
    model = load_model(_made(folder, TEACHER_FILE), {"VQVAE": (vq.VQVAEConfig, vq.VQVAE)})
    assert isinstance(model, vq.VQVAE)
    return model


def read_prior(folder: Path) -> PixelCNN:
    """The prior of a folder that `train` or `demo` made; raises as `read_teacher`."""
    prior = load_model(_made(folder, PRIOR_FILE), {"PixelCNN": (PixelCNNConfig, PixelCNN.from_config)})
    assert isinstance(prior, PixelCNN)
    return prior


def read_codes(folder: Path, data: Dataset) -> EncodedDataset:
    """The codes of a folder's images, with the labels that the images have; raises as `read_teacher`."""
    splits, teacher = _split_codes(folder), read_teacher(folder)
    encoded = {name: EncodedSplit(splits[name], getattr(data, name).labels) for name in _SPLITS}
    return EncodedDataset(data.name, teacher.grid, teacher.cardinalities, data.num_classes, **encoded)


def read_train_codes(folder: Path) -> Int64[Tensor, "M P"]:
    """The codes of a folder's training images; raises as `read_teacher`."""
    return _split_codes(folder)["train"]


def _split_codes(folder: Path) -> Mapping[str, Tensor]:
    path = _made(folder, CODES_FILE)
    try:
        splits = load_file(path)
    except (SafetensorError, ValueError) as error:
        raise FileFormatError(f"{path} cannot be read ({error}): delete it, and train again to make it anew") from error
    if not set(_SPLITS) <= set(splits):
        raise FileFormatError(f"{path} does not hold the codes of three splits: delete it, and train again")
    return splits


def _made(folder: Path, name: str) -> Path:
    path = folder / name
    if folder.is_file():
        raise ConfigError(f"{folder} is a file, where a folder is needed that vq-circuit train or demo made")
    if not path.is_file():
        raise ConfigError(
            f"{folder} has no {name}, so nothing was trained there, or not to the end: run vq-circuit train --out {folder}"
        )
    return path


def _first(split: Split, count: int | None) -> Split:
    return split if count is None else Split(split.images[:count], split.labels[:count])


def _checksum(split: Split) -> str:
    """A checksum of images and labels."""
    value = 0
    for tensor in (split.images.to(torch.int32), split.labels):
        value = zlib.crc32(tensor.contiguous().numpy().data, value)
    return f"{len(split)} images, crc32 {value:08x}"


def _history_facts(history: History) -> dict[str, Any]:
    best = history.best
    return {
        "epochs": len(history.epochs),
        "best_epoch": best.epoch,
        "train_loss": best.train_loss,
        "validation_loss": best.validation_loss,
        "validation_metrics": dict(best.validation_metrics),
        "seconds": sum(record.seconds for record in history.epochs),
    }


def _numbers(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
