"""The commands of `vq-circuit`, gathered."""

from __future__ import annotations

import inspect

import typer

from vq_sources.cli.demo import demo
from vq_sources.cli.distil import distil
from vq_sources.cli.evaluate import evaluate
from vq_sources.cli.info import info
from vq_sources.cli.inpaint import inpaint
from vq_sources.cli.sample import sample
from vq_sources.cli.train import train

__all__ = ["app"]


def paragraphs(text: str | None) -> str:
    """A docstring for a terminal of any width: one line for each paragraph.

    >>> paragraphs("One\\nline.\\n\\n    And another.")
    'One line.\\n\\nAnd another.'
    """
    parts = inspect.cleandoc(text or "").split("\n\n")
    return "\n\n".join(" ".join(part.split()) for part in parts)


app = typer.Typer(
    name="vq-circuit",
    help="Turn a VQ-VAE into a probabilistic circuit: exact likelihoods, marginals, conditionals, samples, inpaintings.",
    epilog="Start with [bold]vq-circuit demo[/]: digits, a minute, nothing to download.",
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command, epilog in (
    (demo, "[bold]vq-circuit demo --dataset mnist --data-root data --download[/]"),
    (train, "[bold]vq-circuit train --dataset digits --epochs 40 --out runs/digits[/]"),
    (distil, "[bold]vq-circuit distil runs/digits --select stochastic_beam --size 1024 --weights prior[/]"),
    (evaluate, "[bold]vq-circuit evaluate runs/demo-digits/circuits/exact-bound-65536.pc --split validation[/]"),
    (sample, "[bold]vq-circuit sample runs/demo-digits/circuits/beam-prior-1024.pc --count 40 --seed 3[/]"),
    (inpaint, "[bold]vq-circuit inpaint runs/demo-digits/circuits/beam-prior-1024.pc --hide right[/]"),
    (info, "[bold]vq-circuit info runs/demo-digits[/]"),
):
    app.command(help=paragraphs(command.__doc__), epilog=f"Example: {epilog}")(command)
