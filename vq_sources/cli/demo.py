"""`vq-circuit demo`: everything once, from images to a table, pictures and circuit files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.panel import Panel

from pcircuits.learning.files import write_whole
from safetensors.torch import save

import pcircuits as pc
from vq_sources.cli.circuit_files import write_circuit
from vq_sources.cli.failures import reporting
from vq_sources.cli.judging import Hidden, drawn_images, evaluated, inpainting_facts, inpainting_picture
from vq_sources.cli.options import DataRoot, DatasetName, Device, Download, Out, Seed, check_device
from vq_sources.cli.recipe import Recipe, recipe_for
from vq_sources.cli.selecting import Method, WeightsName, choose
from vq_sources.cli.training import Training
from vq_sources.cli.voice import Voice
from vq_sources.cli.workspace import Workspace
from vq_sources.codes import CodeSet
from vq_sources.data.pixels import scale
from vq_sources.distil import distil
from vq_sources.metrics import sizes
from vq_sources.report import Row, bpd_curves, picture_samples, results_table, versions, write_json

__all__ = ["demo"]
