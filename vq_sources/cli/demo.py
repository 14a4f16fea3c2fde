"""`vq-circuit demo`: everything once, from images to a table, pictures and circuit files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.panel import Panel
from rich.table import Table

from vq_sources.cli.experiment import Experiment
from vq_sources.cli.failures import reporting
from vq_sources.cli.options import DataRoot, DatasetName, Device, Download, Out, Seed, check_device
from vq_sources.cli.recipe import recipe_for
from vq_sources.cli.training import Training
from vq_sources.cli.voice import Voice
from vq_sources.cli.workspace import Workspace, settings_of
from vq_sources.report import Row, results_table, write_json

__all__ = ["demo"]

REPORT_FILE = "report.json"


def demo(
    dataset: Annotated[
        DatasetName, typer.Option(help="The images. Digits come with scikit-learn.")
    ] = DatasetName.digits,
    data_root: DataRoot = None,
    download: Download = False,
    seed: Seed = 0,
    device: Device = "cpu",
    out: Out = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="The same in seconds: tiny models, few codes.")] = False,
    epochs: Annotated[
        int | None,
        typer.Option(help="Train the VQ-VAE for so many epochs, the prior for no more.", min=1, show_default=False),
    ] = None,
    max_n: Annotated[int | None, typer.Option(help="The most codes of a selection.", min=1, show_default=False)] = None,
) -> None:
    """Everything once: train, distil, evaluate, draw. [green]Start here.[/]

    Trains a VQ-VAE and a prior over its codes; builds the [bold]exact model[/] (every code, weights p(z)) and circuits of
    growing size from codes chosen in four ways; prints [bold]one table[/]; writes report.json, bpd_vs_size.png,
    samples.png, inpainting.png and the circuit files.

    Stopped at any moment, it goes on where it was. Default folder: runs/demo-DATASET.
    """
    with reporting("Run the same command again: it goes on where it was."):
        check_device(device)
        recipe = recipe_for(dataset.value, seed, device, smoke=smoke, epochs=epochs, max_n=max_n)
        folder = out or Path("runs", f"demo-{dataset.value}" + ("-smoke" if smoke else ""))
        voice = Voice()
        with Workspace.open(folder, settings_of("demo", recipe.settings())) as workspace:
            voice.note(f"vq-circuit demo · {dataset.value} · seed {seed} · {device} · into {folder}")
            report = Experiment(Training(workspace, recipe, data_root, download, voice)).report()
            write_json(workspace.path(REPORT_FILE), report)
            show(voice, report, folder)


def show(voice: Voice, report: Mapping[str, Any], folder: Path) -> None:
    """The table, what stands behind it, and where everything is."""
    rows = [Row.from_dict(row) for row in report["rows"]]
    dataset, images = report["settings"]["dataset"], report["codebook"]["test"]["images"]
    voice.out.print()
    voice.out.print(
        results_table(
            rows,
            f"{dataset}: {images:,} test images",
            "bpd: bits per dimension, lower is better; continuous ones are of dequantised pixels. Covered mass: Σ p(z).",
        )
    )
    facts = Table.grid(padding=(0, 2))
    for name, text in _facts(report):
        facts.add_row(f"[cyan]{name}[/]", text)
    voice.out.print(Panel(facts, title="behind the table", title_align="left", border_style="dim"))
    made = f"In [bold]{folder}[/]: {REPORT_FILE}, {', '.join(report['pictures'])}, {len(rows)} circuits."
    voice.out.print(made, highlight=False, soft_wrap=True)
    voice.out.print(f"Look further: [cyan]vq-circuit info {folder}[/]", soft_wrap=True)


def _facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    teacher, prior, use = report["teacher"], report["prior"], report["codebook"]["train"]
    own, shown, exact = report["own_codes"]["test"], report["inpainting"], report["rows"][0]
    return [
        (
            "codebook",
            f"perplexity {use['perplexity']:.1f} of {use['num_codes']}, {use['active_codes']} codes active, "
            f"{use['distinct_grids']:,} distinct grids in {use['images']:,} training images",
        ),
        (
            "sizes",
            f"VQ-VAE {teacher['parameters']:,} parameters, prior {prior['parameters']:,}, "
            f"exact circuit {exact['sizes']['circuit']:,}",
        ),
        (
            "training",
            f"VQ-VAE {teacher['seconds']:.0f} s, best epoch {teacher['best_epoch']} of {teacher['epochs']}; "
            f"prior {prior['seconds']:.0f} s, best epoch {prior['best_epoch']} of {prior['epochs']}",
        ),
        (
            "own codes",
            f"{own['pixels']:.3f} bpd for pixels given the encoder's code + {own['codes']:.3f} for that code "
            f"= {own['sum']:.3f}, which the exact model undercuts",
        ),
        (
            "inpainting",
            f"{shown['hidden']} half of {shown['images']:,} images: PSNR {shown['psnr']:.1f} dB, "
            f"{shown['conditional_bits_per_hidden_pixel']:.3f} bits per hidden pixel given the rest",
        ),
    ]
