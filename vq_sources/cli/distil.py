"""`vq-circuit distil`: a circuit from a trained folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from vq_sources import distil as distillation
from vq_sources.cli.circuit_files import write_circuit
from vq_sources.cli.failures import reporting
from vq_sources.cli.options import Device, Out, Seed, check_device
from vq_sources.cli.selecting import Method, WeightsName, choose
from vq_sources.cli.training import read_prior, read_teacher, read_train_codes
from vq_sources.cli.voice import Voice
from vq_sources.cli.workspace import SETTINGS_NAME, Workspace, settings_of
from vq_sources.errors import ConfigError
from vq_sources.metrics import sizes
from vq_sources.report import Row, method_name, read_json

__all__ = ["distil"]


def distil(
    folder: Annotated[Path, typer.Argument(help="What [cyan]train[/] or [cyan]demo[/] made.", show_default=False)],
    select: Annotated[Method, typer.Option(help="How codes are chosen.")] = Method.stochastic_beam,
    size: Annotated[
        int | None, typer.Option(help="How many codes; [cyan]exact[/] takes all without it.", min=1)
    ] = None,
    weights: Annotated[WeightsName, typer.Option(help="1/N, p(z) renormalised, or p(z) itself.")] = WeightsName.prior,
    seed: Seed = 0,
    device: Device = "cpu",
    out: Out = None,
) -> None:
    """Choose codes and distil them into a circuit file.

    One product over the pixels for each code, and one sum: the decoder stays the source of the pixels' parameters, so
    the file is as small as the VQ-VAE.

    Default folder: FOLDER-METHOD-WEIGHTS-N.
    """
    with reporting():
        check_device(device)
        if size is None and select is not Method.exact:
            size = 1024
        dataset = _dataset_of(folder)
        teacher, prior = read_teacher(folder).to(device), read_prior(folder).to(device)
        name = Row.named(select.value, weights.value, size or int(teacher.config.num_codes**teacher.config.positions))
        target = out or folder.with_name(f"{folder.resolve().name}-{name}")
        voice = Voice()
        asked = {"select": select.value, "size": size, "weights": weights.value, "seed": seed, "device": device}
        settings = {**asked, "dataset": dataset, "prior": prior.identity}
        with Workspace.open(target, settings_of("distil", settings)) as workspace:

            def compute() -> dict[str, object]:
                train_codes = read_train_codes(folder)
                with voice.step(f"choosing codes: {method_name(select.value)}"):
                    codes = choose(select, prior, size, train_codes, seed)
                with voice.step("distilling"):
                    circuit = distillation(teacher, codes, weights.value)
                    path = workspace.path(f"{name}.pc")
                    write_circuit(path, circuit, dataset, codes, weights.value, sizes(circuit, teacher, prior))
                return {
                    "covered_mass": codes.covered_mass,
                    **asdict(codes.provenance),
                    "summary": str(circuit.summary()),
                }

            result, _ = workspace.stage("distil", compute, [f"{name}.pc", f"{name}.json"])
        voice.out.print(
            f"{result['reached']:,} codes, covered mass {result['covered_mass']:.3f}\n{result['summary']}\n"
            f"In [bold]{target / name}.pc[/]. Next: [cyan]vq-circuit evaluate {target / name}.pc[/]",
            highlight=False,
            soft_wrap=True,
        )


def _dataset_of(folder: Path) -> str:
    """The name of the data set that a folder was made from."""
    path = folder / SETTINGS_NAME
    if not path.is_file():
        raise ConfigError(f"{folder} has no {SETTINGS_NAME}: name a folder that vq-circuit train or demo made")
    settings = read_json(path, "train again in a new folder")
    if settings.get("command") not in ("train", "demo"):
        raise ConfigError(f"{folder} was made by {settings.get('command')!r}: name a folder that train or demo made")
    return str(settings["dataset"])
