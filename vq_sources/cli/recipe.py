"""What is trained, chosen and evaluated on each data set: everything that determines the results of a command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from pcircuits.learning import FitSettings
from pcircuits.learning.randomness import derive_seed
from vq_sources.models.config import VQVAEConfig
from vq_sources.models.files import config_to_dict
from vq_sources.priors import PixelCNNConfig

__all__ = ["Recipe", "recipe_for"]


@dataclass(frozen=True)
class Recipe:
    """Settings of a teacher, its prior, and of what is made of them.

    **Arguments**

    - `dataset`: its name.
    - `seed`: of everything; see `seed_for`.
    - `model`, `model_fit`: the VQ-VAE and its training.
    - `prior`, `prior_fit`: the PixelCNN over its codes and its training.
    - `sizes`: the N of the selections, increasing.
    - `train_images`, `test_images`: how many are used, the first of each split; None is all of them.
    - `inpainted_images`: how many test images the numbers of the inpainting are of, the first ones.
    """

    dataset: str
    seed: int
    model: VQVAEConfig
    model_fit: FitSettings
    prior: PixelCNNConfig
    prior_fit: FitSettings
    sizes: tuple[int, ...]
    train_images: int | None = None
    test_images: int | None = None
    inpainted_images: int = 1000

    def seed_for(self, *purpose: str | int) -> int:
        """The seed of one purpose, unrelated to those of others."""
        return derive_seed(self.seed, *purpose)

    @property
    def device(self) -> str:
        """Where everything is computed."""
        return self.model_fit.device

    def training_settings(self) -> dict[str, Any]:
        """What determines the teacher and the prior, as JSON takes it."""
        return {
            "dataset": self.dataset,
            "seed": self.seed,
            "device": self.device,
            "train_images": self.train_images,
            "model": config_to_dict(self.model),
            "model_fit": _fit(self.model_fit),
            "prior": _lists(asdict(self.prior)),
            "prior_fit": _fit(self.prior_fit),
        }

    def settings(self) -> dict[str, Any]:
        """Everything, as JSON takes it."""
        return {
            **self.training_settings(),
            "sizes": list(self.sizes),
            "test_images": self.test_images,
            "inpainted_images": self.inpainted_images,
        }


def recipe_for(
    dataset: str,
    seed: int,
    device: str = "cpu",
    *,
    smoke: bool = False,
    epochs: int | None = None,
    max_n: int | None = None,
) -> Recipe:
    """The settings of a data set.

    **Arguments**

    - `dataset`: "digits", "mnist" or "fashion".
    - `seed`, `device`: of everything.
    - `smoke`: the smallest that shows all parts, in seconds.
    - `epochs`: of the VQ-VAE, instead of the recipe's; the prior gets no more than that either.
    - `max_n`: sizes above it are left out, and it becomes the largest.

    >>> recipe_for("digits", seed=0).sizes
    (16, 64, 256, 1024, 4096)
    >>> recipe_for("digits", seed=0, max_n=100).sizes
    (16, 64, 100)
    """
    recipe = _digits(seed, device) if dataset == "digits" else _images(dataset, seed, device)
    if smoke:
        recipe = _smoke(recipe)
    if epochs is not None:
        recipe = replace(
            recipe,
            model_fit=replace(recipe.model_fit, epochs=epochs),
            prior_fit=replace(recipe.prior_fit, epochs=min(epochs, recipe.prior_fit.epochs)),
        )
    if max_n is not None:
        recipe = replace(recipe, sizes=(*(n for n in recipe.sizes if n < max_n), max_n))
    return recipe


def _digits(seed: int, device: str) -> Recipe:
    """64 pixels, 1,200 training images: a minute on two cores."""
    fit = FitSettings(
        epochs=60, batch_size=64, learning_rate=2e-3, warmup=0.05, final_fraction=0.02, seed=seed, device=device
    )
    return Recipe(
        dataset="digits",
        seed=seed,
        model=VQVAEConfig(data_shape=(8, 8), levels=17, grid=(2, 2), num_codes=16),
        model_fit=fit,
        prior=PixelCNNConfig(grid=(2, 2), num_codes=16, num_classes=10, hidden=32),
        prior_fit=replace(fit, epochs=40, batch_size=128, learning_rate=3e-3),
        sizes=(16, 64, 256, 1024, 4096),
    )


def _images(dataset: str, seed: int, device: str) -> Recipe:
    """784 pixels, 50,000 training images."""
    fit = FitSettings(
        epochs=25, batch_size=128, learning_rate=2e-3, warmup=0.05, final_fraction=0.02, seed=seed, device=device
    )
    return Recipe(
        dataset=dataset,
        seed=seed,
        model=VQVAEConfig(data_shape=(28, 28), levels=256, grid=(2, 2), num_codes=16, min_std=0.002),
        model_fit=fit,
        prior=PixelCNNConfig(grid=(2, 2), num_codes=16, num_classes=10, hidden=32),
        prior_fit=replace(fit, epochs=10, batch_size=256, learning_rate=3e-3),
        sizes=(16, 64, 256, 1024, 4096, 16384),
    )


def _smoke(recipe: Recipe) -> Recipe:
    return replace(
        recipe,
        # With fewer codes or steps, the codes of all images are still the same.
        model=replace(recipe.model, num_codes=8),
        model_fit=replace(recipe.model_fit, epochs=8, batch_size=64),
        prior=replace(recipe.prior, num_codes=8, hidden=16),
        prior_fit=replace(recipe.prior_fit, epochs=8, batch_size=128),
        sizes=(4, 16, 64, 256),
        train_images=1200,
        test_images=60,
        inpainted_images=60,
    )


def _fit(settings: FitSettings) -> dict[str, Any]:
    """What determines a training beside the recipe's own seed and device."""
    return {name: value for name, value in asdict(settings).items() if name not in ("seed", "device")}


def _lists(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
