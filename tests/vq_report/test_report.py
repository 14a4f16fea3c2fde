"""Tables, pictures and reports say what they were given, and are whole or absent."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from pcircuits.errors import FileFormatError
from vq_sources.metrics import Inpainting
from vq_sources.report import (
    Row,
    bpd_curves,
    picture_inpainting,
    picture_samples,
    read_json,
    results_table,
    versions,
    write_bytes,
    write_json,
)

ROWS = [
    Row("exact", "bound", 256, 256, 2.25, 2.0, 1.0, 9.0),
    Row("beam", "prior", 4, 4, 4.125, 3.75, 0.25, 0.5),
    Row("beam", "prior", 16, 9, 2.5, 2.125, 0.75, 0.5),
    Row("encoded", "uniform", 4, 4, 3.0, 2.625, 0.125, 0.5),
]


def text(rows: list[Row], caption: str | None = None, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(results_table(rows, "a title", caption))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_table_has_a_line_for_each_row_within_eighty_columns() -> None:
    said = text([*ROWS, Row("stochastic_beam", "uniform", 16384, 16384, 12.3456, 11.3456, 0.5, 1234.5)])
    lines = [line.split() for line in said.splitlines()]
    assert ["exact", "model", "p(z)", "256", "2.250", "2.000", "1.000", "9.0"] in lines
    assert ["beam", "prior", "4", "4.125", "3.750", "0.250", "0.5"] in lines
    assert ["9*", "2.500", "2.125", "0.750", "0.5"] in lines
    assert ["stochastic", "beam", "uniform", "16,384", "12.346", "11.346", "0.500", "1234.5"] in lines
    assert "…" not in said
    assert max(map(len, said.splitlines())) <= 80


def test_the_table_explains_a_mark_only_where_there_is_one() -> None:
    assert "more were asked for" in text(ROWS, "a caption.")
    assert "more were asked for" not in text(ROWS[:2], "a caption.")


def test_the_table_marks_the_best_but_for_the_exact_model() -> None:
    cells = list(results_table(ROWS, "a title").columns[3].cells)
    assert cells == ["2.250", "4.125", "[bold]2.500[/]", "3.000"]


def test_a_model_without_a_density_has_no_continuous_bits() -> None:
    row = Row("beam", "prior", 4, 4, None, 3.0, 0.5, 1.0)
    assert ["beam", "prior", "4", "–", "3.000", "0.500", "1.0"] in [line.split() for line in text([row]).splitlines()]


def test_rows_come_back_from_a_report_that_says_more() -> None:
    stored = {"method": "beam", "weights": "prior", "asked": 4, "reached": 4, "continuous_bpd": None, "circuit": "x.pc"}
    row = Row.from_dict({**stored, "discrete_bpd": 2.0, "covered_mass": 0.5, "seconds": 1.0})
    assert row == Row("beam", "prior", 4, 4, None, 2.0, 0.5, 1.0)
    assert row.name == "beam-prior-4"


def inpainting() -> Inpainting:
    images = torch.rand(2, 8, 6, generator=torch.Generator().manual_seed(0))
    visible = torch.ones(8, 6, dtype=torch.bool)
    visible[4:] = False
    return Inpainting(images, visible, images * 0.5, torch.stack([images] * 3), 10.0, 1.0)


def images() -> Tensor:
    return torch.rand(13, 8, 6, generator=torch.Generator().manual_seed(0))


DRAW: dict[str, Callable[[Path], None]] = {
    "curves": lambda path: bpd_curves(ROWS, path, "a title"),
    "curves of integers": lambda path: bpd_curves([Row("beam", "prior", 4, 4, None, 3.0, 0.5, 1.0)], path, "a title"),
    "samples": lambda path: picture_samples(images(), path, "a title"),
    "samples beside data": lambda path: picture_samples(images(), path, "a title", images()),
    "inpainting": lambda path: picture_inpainting(inpainting(), path, "a title"),
}


@pytest.mark.parametrize("name", DRAW)
def test_pictures_are_whole_small_and_the_same_each_time(name: str, tmp_path: Path) -> None:
    from matplotlib.image import imread

    first, second = tmp_path / "first.png", tmp_path / "second.png"
    DRAW[name](first)
    DRAW[name](second)
    assert imread(first).ndim == 3
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size < 150_000
    assert {path.name for path in tmp_path.iterdir()} == {"first.png", "second.png"}


def test_the_hidden_part_is_marked_in_a_colour_and_nothing_else_is(tmp_path: Path) -> None:
    from matplotlib.image import imread

    picture_inpainting(inpainting(), tmp_path / "p.png", "a title")
    pixels = torch.from_numpy(imread(tmp_path / "p.png")[..., :3])
    coloured = (pixels.amax(-1) - pixels.amin(-1) > 0.2).nonzero()
    height, width = coloured.amax(0) - coloured.amin(0) + 1
    assert len(coloured) > 1000
    assert width < pixels.shape[1] / 5, "one column of six"
    assert height > pixels.shape[0] / 3, "in both rows"


def test_json_is_exact_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    content = {"bits": 0.1 + 0.2, "none": None, "name": "Å"}
    write_json(path, content)
    assert read_json(path) == content
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]
    with pytest.raises(TypeError):
        write_json(path, {"bits": object()})
    assert read_json(path) == content, "what cannot be written replaces nothing"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_a_damaged_report_says_what_to_do(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_bytes(path, content)
    with pytest.raises(FileFormatError, match="delete it"):
        read_json(path)


def test_versions_name_what_computes() -> None:
    assert versions()["torch"] == str(torch.__version__)
    assert json.dumps(versions())


@pytest.mark.errors
@pytest.mark.parametrize(("package", "name"), [("matplotlib.figure", "inpainting"), ("rich", None)])
def test_a_missing_package_names_the_extra(
    package: str, name: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ImportError, match=r"pip install \"pcircuits\[vq\]\""):
        DRAW[name](tmp_path / "p.png") if name else results_table(ROWS, "a title")
