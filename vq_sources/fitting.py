"""Fitting VQ models to images and priors to codes, and the step between: encoding a data set once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from pcircuits import learning
from pcircuits.learning import EpochRecord, FitSettings, History
from vq_sources.data import Dataset, EncodedDataset, EncodedSplit, Split
from vq_sources.errors import DataError
from vq_sources.protocols import VQSource, grid_of

__all__ = ["encode", "fit"]


def fit(
    model: nn.Module,
    data: Dataset | EncodedDataset,
    settings: FitSettings | None = None,
    *,
    folder: str | Path | None = None,
    progress: bool = False,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> History:
    """Fit a VQ model to images, or a prior to codes, and give it the weights of its best validation loss.

    **Arguments**

    - `model`: a module with `loss(batch)`; of a VQ model a batch is (images,), of a prior (codes, labels).
    - `data`: a `Dataset` for a VQ model; `encode(model, data)` for a prior.
    - `settings`, `folder`, `progress`, `on_epoch`: as in `pcircuits.learning.fit`.

    **Raises** `DataError` for a prior with images or a VQ model with codes; else as `pcircuits.learning.fit`.
    """
    if not isinstance(data, Dataset | EncodedDataset):
        raise DataError(
            f"data is a vq_sources.Dataset of images, or what vq_sources.encode makes of one, not {type(data).__name__}: put "
            "tensors together with vq_sources.Dataset, or train with pcircuits.learning.fit."
        )
    takes_images, has_images = callable(getattr(model, "encode", None)), isinstance(data, Dataset)
    if takes_images and not has_images:
        raise DataError(f"{type(model).__name__} is fitted to images, not to codes: pass what vq_sources.load returns.")
    if has_images and not takes_images:
        raise DataError(
            f"{type(model).__name__} has no encode(images), so it is fitted to codes, not to images: "
            "pass vq_sources.encode(model, data)."
        )
    _require_the_levels_of(model, data)
    train: tuple[Tensor, ...] = data.train.batch
    validation: tuple[Tensor, ...] = data.validation.batch
    return learning.fit(
        model, train, validation, settings=settings, folder=folder, progress=progress, on_epoch=on_epoch
    )


def encode(model: VQSource, data: Dataset, *, batch_size: int = 256) -> EncodedDataset:
    """The codes of every image, in evaluation mode and without gradients; the model is left as it was.

    **Arguments**

    - `model`: a fitted VQ model.
    - `data`: images of the model's shape and levels.
    - `batch_size`: images at a time; the codes do not depend on it.

    **Raises** `DataError` for images that do not fit the model.
    """
    if not isinstance(data, Dataset):
        raise DataError(
            f"images are encoded from a vq_sources.Dataset, not from {type(data).__name__}: for a tensor of images call "
            "model.encode(images)."
        )
    _require_the_levels_of(model, data)
    with _evaluating(model):

        def encoded(split: Split) -> EncodedSplit:
            return EncodedSplit(_codes(model, split.images, batch_size), split.labels)

        return EncodedDataset(
            name=data.name,
            grid=grid_of(model),
            cardinalities=model.cardinalities,
            num_classes=data.num_classes,
            train=encoded(data.train),
            validation=encoded(data.validation),
            test=encoded(data.test),
        )


def _require_the_levels_of(model: object, data: Dataset | EncodedDataset) -> None:
    """Fewer levels than the model's would pass as dark images, and bits per dimension would be of other bins."""
    levels = getattr(model, "levels", None)
    if isinstance(data, Dataset) and levels is not None and levels != data.levels:
        raise DataError(
            f"{type(model).__name__} is a model of images with {levels} levels, and those of {data.name!r} have "
            f"{data.levels}: make it with levels={data.levels}."
        )


@torch.no_grad()
def _codes(model: VQSource, images: Int64[Tensor, "n H W"], batch_size: int) -> Int64[Tensor, "n P"]:
    device = _device(model)
    batches = [model.encode(batch.to(device)).to(torch.int64).cpu() for batch in torch.split(images, batch_size)]
    return torch.cat(batches)


def _device(model: VQSource) -> torch.device:
    """Where the model's weights are; a source without weights computes on the CPU."""
    if isinstance(model, nn.Module):
        for tensor in (*model.parameters(), *model.buffers()):
            return tensor.device
    return torch.device("cpu")


@contextmanager
def _evaluating(model: VQSource) -> Iterator[None]:
    """Evaluation mode inside; afterwards each submodule is in the mode it was in."""
    modes = {module: module.training for module in model.modules()} if isinstance(model, nn.Module) else {}
    try:
        for module in modes:
            module.training = False
        yield
    finally:
        for module, training in modes.items():
            module.training = training
