"""Circuits of several roots, entropies of two kinds, more epochs, terminals of other encodings, and wrong files."""

import csv
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

import pcircuits as pc
import vq_sources as vq
from vq_sources.cli.app import app
from vq_sources.cli.training import read_teacher

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """`vq-circuit` with arguments, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return run_here


def run_here(*arguments: str | Path, code: int = 0) -> Result:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == code, (done.output, done.exception)
    return done


def flat(text: str) -> str:
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())


def two_roots() -> pc.Circuit:
    """Four pixels in {0, 1}: fair ones, and ones that are nearly always 1."""
    fair, ones = (pc.Bernoulli(range(4), torch.full((4, 1), p, dtype=torch.float64)).prod() for p in (0.5, 0.999))
    return pc.Circuit([fair, ones])


def entropy(said: str, name: str) -> float:
    found = re.search(re.escape(name) + r" about (-?[0-9.]+)", said)
    assert found, said
    return float(found[1])


def test_of_several_roots_one_is_named(run: Run) -> None:
    pc.save(two_roots(), "two.pc")
    assert "two.pc has 2 roots, 0 to 1: say which one with --root" in flat(run("sample", "two.pc", code=1).output)
    assert "--root is 2" in flat(run("sample", "two.pc", "--root", "2", code=1).output)
    said = flat(run("info", "two.pc").output)
    assert "entropy of each root another: say which of 0 to 1 with --root" in said
    fair = entropy(flat(run("info", "two.pc", "--root", "0").output), "entropy, root 0")
    ones = entropy(flat(run("info", "two.pc", "--root", "1").output), "entropy, root 1")
    assert fair == pytest.approx(1.0, abs=1e-9)  # of every sample
    assert ones < 0.2
    assert "--root is 2" in flat(run("info", "two.pc", "--root", "2", code=1).output)
    for root in ("0", "1"):
        run("sample", "two.pc", "--root", root, "--count", "3", "--out", f"s{root}")
    assert Path("s0/samples.png").read_bytes() != Path("s1/samples.png").read_bytes()
    pc.save(pc.Circuit(pc.Bernoulli(range(4), torch.full((4, 1), 0.5)).prod()), "one.pc")
    run("sample", "one.pc", "--root", "0", "--count", "2")
    assert "has one root, 0, and --root is 1" in flat(run("sample", "one.pc", "--root", "1", code=1).output)


def test_entropies_of_integers_and_of_real_numbers_are_two(run: Run) -> None:
    scale = 0.125
    leaves = [pc.Bernoulli("coin", 0.5), pc.Normal("x", 0.0, scale), pc.Normal("y", 3.0, scale)]
    pc.save(pc.Circuit(leaves[0] * leaves[1] * leaves[2]), "mixed.pc")
    said = flat(run("info", "mixed.pc").output)
    assert entropy(said, "entropy of 1 integer variables") == pytest.approx(1.0, abs=1e-9)
    wanted = 0.5 * math.log2(2 * math.pi * math.e * scale**2)
    assert entropy(said, "differential entropy of 2 real ones given these") == pytest.approx(wanted, abs=0.3)
    failed = flat(run("sample", "mixed.pc", code=1).output)
    assert "square" in failed or "pixels of one kind" in failed


def test_images_are_not_judged_by_a_circuit_of_two_kinds() -> None:
    mixed = pc.Circuit(pc.Bernoulli(0, 0.5) * pc.Normal(1, 0.0, 1.0)).compile()
    with pytest.raises(vq.DataError, match="pixels of one kind"):
        vq.metrics.discrete_bpd(mixed, torch.zeros(1, 1, 2, dtype=torch.int64), 2)


def epochs_of(folder: Path, what: str) -> list[int]:
    with (folder / "training" / what / "training.csv").open() as file:
        return [int(row["epoch"]) for row in csv.DictReader(file)]


def test_more_epochs_go_on_in_the_same_folder(run: Run) -> None:
    out = Path("t")
    run("train", "--smoke", "--epochs", "1", "--out", out)
    first = (out / "training/vqvae/training.csv").read_text().splitlines()[:2]
    run("train", "--smoke", "--epochs", "3", "--out", out)
    assert (out / "training/vqvae/training.csv").read_text().splitlines()[:2] == first  # to the seconds: not run again
    assert epochs_of(out, "vqvae") == epochs_of(out, "prior") == [1, 2, 3]
    report = json.loads((out / "report.json").read_text())
    assert report["teacher"]["epochs"] == report["prior"]["epochs"] == 3
    teacher, images = read_teacher(out), vq.load("digits").test.images
    assert torch.equal(load_file(out / "codes.safetensors")["test"][:50], teacher.encode(images[:50]))
    before = (out / "vqvae.safetensors").read_bytes()
    failed = flat(run("train", "--smoke", "--epochs", "2", "--out", out, code=1).output)
    assert "model_fit.epochs: 3 there, 2 here" in failed
    assert "more, and not to fewer" in failed
    assert (out / "vqvae.safetensors").read_bytes() == before
    assert "seed: 0 there, 1 here" in flat(run("train", "--smoke", "--epochs", "4", "--seed", "1", "--out", out, code=1).output)  # fmt: skip  # noqa: E501
    assert epochs_of(out, "vqvae") == [1, 2, 3]


@pytest.mark.errors
def test_things_that_are_no_circuit_files_are_named(run: Run) -> None:
    pc.save(two_roots(), "two.pc")
    run("sample", "two.pc", "--root", "0", "--count", "2", "--out", "s")
    Path("deep/er").mkdir(parents=True)
    Path("deep/er/two.pc").write_bytes(Path("two.pc").read_bytes())
    Path("empty").mkdir()
    torch.save({"a": 1}, "checkpoint.pt")
    Path("photo.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    for wrong, said in (
        ("s/samples.png", "s/samples.png is a picture (PNG), not a circuit file"),
        ("photo.jpg", "a picture (JPEG)"),
        ("s/settings.json", "may be JSON"),
        ("checkpoint.pt", "zip archive"),
        ("deep", "deep is a folder, where a circuit file (.pc) is needed: name one in it, such as er/two.pc"),
        ("empty", "there is none in it"),
    ):
        for command in ("sample", "evaluate", "inpaint"):
            assert said in flat(run(command, wrong, code=1).output), (command, wrong)
    assert "a picture (PNG)" in flat(run("info", "s/samples.png", code=1).output)
    assert "no settings.json" in flat(run("distil", "two.pc", code=1).output)


def in_a_terminal_of(encoding: str, *arguments: str) -> tuple[int, str]:
    """The command in a process of its own, whose output has this encoding."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "160", "NO_COLOR": "1"}
    root = str(Path(vq.__file__).parents[1])
    environment["PYTHONPATH"] = root
    if encoding == "C":
        del environment["PYTHONIOENCODING"]
        environment |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "vq_sources.cli", *arguments],
        env=environment,
        capture_output=True,
        check=False,
        timeout=120,
    )
    return done.returncode, (done.stdout + done.stderr).decode("ascii" if encoding == "C" else encoding)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "C", "utf-8"])
def test_output_is_readable_in_every_encoding(encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pc.save(pc.Circuit(pc.Normal(range(4), torch.zeros(4, 1), torch.ones(4, 1)).prod()), "c.pc")
    code, said = in_a_terminal_of(encoding, "info", "c.pc")
    assert code == 0
    assert "Traceback" not in said
    assert re.search(r"differential entropy +about \d\.\d+ (±|\+/-) \d\.\d+ bits", said)
    code, said = in_a_terminal_of(encoding, "evaluate", "--help")
    assert code == 0
    assert "vq-circuit evaluate" in said
    assert ("−" if encoding == "utf-8" else "-") + "log2 of the density" in " ".join(said.split())
    code, said = in_a_terminal_of(encoding, "sample", "nöthing.pc")
    assert code == 1
    assert "Traceback" not in said
    assert "thing.pc" in said


def test_other_encodings_get_words_for_signs() -> None:
    from vq_sources.cli.encodings import plainly

    assert plainly("8 × 8 ± 1 − 2 … ✓ Σ p(z) │ ╭ é 好") == "8 x 8 +/- 1 - 2 ... + sum p(z) | + e ?"
