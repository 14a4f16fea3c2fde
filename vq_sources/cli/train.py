"""`vq-circuit train`: a VQ-VAE and a prior over its codes, in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vq_sources.cli.failures import reporting
from vq_sources.cli.options import DataRoot, DatasetName, Device, Download, Out, Seed, check_device
from vq_sources.cli.recipe import recipe_for
from vq_sources.cli.training import LONGER_TRAINING, Training
from vq_sources.cli.voice import Voice
from vq_sources.cli.workspace import Workspace, settings_of
from vq_sources.report import write_json

__all__ = ["train"]


def train(
    dataset: Annotated[
        DatasetName, typer.Option(help="The images. Digits come with scikit-learn.")
    ] = DatasetName.digits,
    data_root: DataRoot = None,
    download: Download = False,
    seed: Seed = 0,
    device: Device = "cpu",
    out: Out = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="The same in seconds: tiny models, few images.")] = False,
    epochs: Annotated[
        int | None,
        typer.Option(help="Train the VQ-VAE for so many epochs, the prior for no more.", min=1, show_default=False),
    ] = None,
) -> None:
    """Train a VQ-VAE and a prior over its codes.

    Writes vqvae.safetensors, prior.safetensors, codes.safetensors and report.json, and under training/ a log of the
    epochs and the checkpoint from which a stopped training goes on. With more --epochs than before, the VQ-VAE is trained
    on from where it was, and the prior anew on its codes.

    Default folder: runs/DATASET.
    """
    with reporting("Run the same command again: training goes on after its last whole epoch."):
        check_device(device)
        recipe = recipe_for(dataset.value, seed, device, smoke=smoke, epochs=epochs)
        folder = out or Path("runs", dataset.value + ("-smoke" if smoke else ""))
        voice = Voice()
        settings = settings_of("train", recipe.training_settings())
        with Workspace.open(folder, settings, growing=LONGER_TRAINING) as workspace:
            training = Training(workspace, recipe, data_root, download, voice)
            teacher, codes, prior = training.teacher_facts(), training.codes_facts(), training.prior_facts()
            report = {"command": "train", "data": training.data_facts()}
            write_json(workspace.path("report.json"), {**report, "teacher": teacher, "codebook": codes, "prior": prior})
        use = codes["train"]
        voice.out.print(
            f"VQ-VAE: validation loss {teacher['validation_loss']:.2f} nats, best epoch {teacher['best_epoch']} of "
            f"{teacher['epochs']}; codebook perplexity {use['perplexity']:.1f} of {use['num_codes']}, "
            f"{use['distinct_grids']:,} distinct grids\n"
            f"prior: validation loss {prior['validation_loss']:.2f} nats, best epoch "
            f"{prior['best_epoch']} of {prior['epochs']}\n"
            f"In [bold]{folder}[/]. Next: [cyan]vq-circuit distil {folder}[/]",
            highlight=False,
            soft_wrap=True,
        )
