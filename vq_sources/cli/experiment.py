"""A whole experiment in a folder of results: circuits of growing size beside the exact model, judged on test images."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

import pcircuits as pc
from vq_sources.cli.circuit_files import write_circuit
from vq_sources.cli.judging import (
    Hidden,
    drawn_images,
    evaluated,
    inpainting_facts,
    inpainting_picture,
    own_code_facts,
)
from vq_sources.cli.selecting import Method, WeightsName, choose, read_selection, write_selection
from vq_sources.cli.training import Training
from vq_sources.codes import CodeSet
from vq_sources.data.pixels import scale
from vq_sources.distil import distil
from vq_sources.metrics import sizes
from vq_sources.report import Row, bpd_curves, method_name, picture_samples, versions

__all__ = ["CURVES", "Experiment"]

CURVES = (
    (Method.ancestral, WeightsName.uniform),
    (Method.ancestral, WeightsName.prior),
    (Method.beam, WeightsName.prior),
    (Method.stochastic_beam, WeightsName.prior),
    (Method.encoded, WeightsName.prior),
)
"""What is distilled at growing N; the first is what the paper does (DMRS)."""

EAGER_NUMBERS = 2**27
"""Decoded parameters up to this many are held in memory; beyond, the decoder streams them."""
SAMPLES, SHOWN = 40, 6
PICTURES = ("bpd_vs_size.png", "samples.png", "inpainting.png")


class Experiment:
    """The stages of an experiment; every one is computed once, and read from the folder ever after.

    **Arguments**

    - `training`: the teacher and the prior, in the same folder.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        self.recipe = training.recipe
        self.workspace = training.workspace
        self.voice = training.voice
        self._chosen: dict[Method, CodeSet] = {}

    def report(self) -> dict[str, Any]:
        """All numbers; computes what is missing, and draws the pictures."""
        training = self.training
        facts = {
            "teacher": training.teacher_facts(),
            "codebook": training.codes_facts(),
            "prior": training.prior_facts(),
            "own_codes": self._own_codes(),
        }
        selections = {method.value: self._selected(method) for method in self._methods()}
        rows = [
            row
            for method, weights in ((Method.exact, WeightsName.bound), *CURVES)
            for row in self._curve(method, weights)
        ]
        inpainting = self._inpainting()
        self._samples()
        self._curves([row for row, _ in rows])
        return {
            "command": "demo",
            "settings": self.recipe.settings(),
            "versions": versions(),
            "data": training.data_facts(),
            **facts,
            "selections": selections,
            "rows": [{**asdict(row), "sizes": numbers, "circuit": _circuit_name(row.name)} for row, numbers in rows],
            "inpainting": inpainting,
            "pictures": list(PICTURES),
        }

    def _methods(self) -> list[Method]:
        return list(dict.fromkeys([Method.exact, *(method for method, _ in CURVES)]))

    def _own_codes(self) -> dict[str, Any]:
        """What images cost under their own code alone, and with that code's own cost."""

        def compute() -> dict[str, Any]:
            training = self.training
            prior = training.prior.marginal()
            with self.voice.step("what images cost under their own codes"):
                return {
                    name: own_code_facts(
                        training.teacher,
                        prior,
                        getattr(training.data, name),
                        getattr(training.codes, name),
                        self.recipe.seed,
                    )
                    for name in ("train", "validation", "test")
                }

        return self.workspace.stage("own_codes", compute)[0]

    def _selected(self, method: Method) -> dict[str, Any]:
        """Where the codes of a method came from; the largest selection, of which smaller ones are prefixes."""

        def compute() -> dict[str, Any]:
            recipe, training = self.recipe, self.training
            size = None if method is Method.exact else min(recipe.sizes[-1], self._all_codes())
            seed = recipe.seed_for("selection", method.value)
            prior, train_codes = training.prior, training.codes.train.codes
            with self.voice.step(f"choosing codes: {method_name(method.value)}"):
                codes = choose(method, prior, size, train_codes, seed)
            write_selection(self.workspace.path(_selection_name(method)), codes)
            provenance = asdict(codes.provenance)
            return {**provenance, "details": dict(provenance["details"]), "covered_mass": codes.covered_mass}

        result, seconds = self.workspace.stage(f"selections/{method.value}", compute, [_selection_name(method)])
        return {**result, "seconds": seconds}

    def _codes(self, method: Method) -> CodeSet:
        """The largest selection of a method."""
        if method not in self._chosen:
            self._selected(method)
            self._chosen[method] = read_selection(self.workspace.path(_selection_name(method)))
        return self._chosen[method]

    def _all_codes(self) -> int:
        return int(self.recipe.model.num_codes**self.recipe.model.positions)

    def _curve(self, method: Method, weights: WeightsName) -> list[tuple[Row, dict[str, int]]]:
        """Circuits of one method and weights, up to the first size that takes all of the method's codes."""
        reached = int(self._selected(method)["reached"])
        sizes = (self._all_codes(),) if method is Method.exact else self.recipe.sizes
        asked = [size for before, size in zip((0, *sizes), sizes, strict=False) if before < reached]
        names = [Row.named(method.value, weights.value, size) for size in asked]
        if all(self.workspace.done(_row_name(name), _circuit_files(name)) for name in names):
            return [self._row(method, weights, size) for size in asked]
        title = f"distilling and evaluating: {method_name(method.value)}, weights {weights.value}"
        rows = []
        with self.voice.step(title) as say:
            for size in asked:
                say(f"N = {min(size, reached):,}")
                rows.append(self._row(method, weights, size))
        return rows

    def _row(self, method: Method, weights: WeightsName, size: int) -> tuple[Row, dict[str, int]]:
        """A distilled circuit in its file, and what it is worth."""
        name = Row.named(method.value, weights.value, size)

        def compute() -> dict[str, Any]:
            return self._distilled(name, method, weights, size)

        files = _circuit_files(name)
        if not self.workspace.done(_row_name(name), files):  # loaded before, so that they are not in its seconds
            _ = self.training.data, self.training.teacher, self.training.prior, self._codes(method)
        result, seconds = self.workspace.stage(_row_name(name), compute, files)
        numbers = result.pop("sizes")
        return Row(method.value, weights.value, size, seconds=seconds, **result), numbers

    def _distilled(self, name: str, method: Method, weights: WeightsName, size: int) -> dict[str, Any]:
        training, recipe = self.training, self.recipe
        whole = self._codes(method)
        codes = whole.prefix(min(size, len(whole))).to(recipe.device)
        codes = replace(codes, provenance=replace(codes.provenance, asked=size))
        data = training.data
        circuit = distil(training.teacher, codes, weights.value)
        numbers = sizes(circuit, training.teacher, training.prior)
        write_circuit(self.workspace.path(_circuit_name(name)), circuit, recipe.dataset, codes, weights.value, numbers)
        if len(codes) * 2 * len(circuit.variables) <= EAGER_NUMBERS:
            circuit = distil(training.teacher, codes, weights.value, eager=True)
        judged = evaluated(circuit, data.test.images, data.levels, recipe.device, recipe.seed)
        return {"reached": len(codes), **judged, "covered_mass": codes.covered_mass, "sizes": asdict(numbers)}

    def _exact(self) -> pc.Circuit:
        codes = self._codes(Method.exact).to(self.recipe.device)
        numbers = len(codes) * 2 * math.prod(self.recipe.model.data_shape)
        return distil(self.training.teacher, codes, "bound", eager=numbers <= EAGER_NUMBERS)

    def _inpainting(self) -> dict[str, Any]:
        """The bottom half of test images from the top one, by the exact model; and the picture."""

        def compute() -> dict[str, Any]:
            recipe, data = self.recipe, self.training.data
            images, circuit = data.test.images[: recipe.inpainted_images], self._exact()
            seed = recipe.seed_for("inpainting")
            with self.voice.step("inpainting"):
                facts = inpainting_facts(circuit, images, data.levels, Hidden.bottom, recipe.device, seed)
                path, title = self.workspace.path(PICTURES[2]), f"{recipe.dataset}: the bottom half given the top"
                some = images[_one_of_each(data.test.labels[: len(images)])[:SHOWN]]
                inpainting_picture(circuit, some, data.levels, Hidden.bottom, path, title, recipe.device, seed)
            return facts

        return self.workspace.stage("inpainting", compute, [PICTURES[2]])[0]

    def _samples(self) -> None:
        def compute() -> dict[str, Any]:
            recipe, data = self.recipe, self.training.data
            with self.voice.step("sampling"):
                seed = recipe.seed_for("samples")
                drawn = drawn_images(self._exact(), SAMPLES, data.shape, recipe.device, seed)
                title = f"samples of the exact model ({self._all_codes():,} codes)"
                shown = scale(data.test.images[:10], data.levels)
                picture_samples(drawn, self.workspace.path(PICTURES[1]), title, shown)
            return {}

        self.workspace.stage("samples", compute, [PICTURES[1]])

    def _curves(self, rows: list[Row]) -> None:
        def compute() -> dict[str, Any]:
            path, title = self.workspace.path(PICTURES[0]), f"{self.recipe.dataset}, test images"
            bpd_curves(rows, path, title)
            return {}

        self.workspace.stage("curves", compute, [PICTURES[0]])


def _one_of_each(labels: Tensor) -> Tensor:
    """Indices of the images, the first of each class before the second of each."""
    rank = torch.zeros_like(labels)
    for label in torch.unique(labels):
        rows = (labels == label).nonzero()[:, 0]
        rank[rows] = torch.arange(len(rows))
    return (rank * (int(labels.max()) + 1) + labels).argsort(stable=True)


def _selection_name(method: Method) -> str:
    return f"selections/{method.value}.safetensors"


def _row_name(name: str) -> str:
    return f"rows/{name}"


def _circuit_files(name: str) -> list[str]:
    """A circuit, and what is known of it."""
    return [_circuit_name(name), f"circuits/{name}.json"]


def _circuit_name(name: str) -> str:
    return f"circuits/{name}.pc"
