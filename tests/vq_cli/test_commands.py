"""Every command of `vq-circuit` on a small folder, what it writes, what it says, and how it fails."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

import pcircuits as pc
import vq_sources as vq
from vq_sources.cli.app import app
from vq_sources.cli.training import read_prior, read_teacher
from vq_sources.metrics import continuous_bpd, discrete_bpd

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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished demo, the smallest there is."""
    folder = tmp_path_factory.mktemp("demo") / "d"
    run_here("demo", "--smoke", "--epochs", "1", "--max-n", "16", "--out", folder)
    return folder


@pytest.fixture(scope="module")
def report(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return content


def test_the_demo_leaves_a_report_pictures_and_circuits(folder: Path, report: dict[str, Any]) -> None:
    for name in (*report["pictures"], *(row["circuit"] for row in report["rows"]), "vqvae.safetensors"):
        assert (folder / name).stat().st_size > 0, name
    assert report["pictures"] == ["bpd_vs_size.png", "samples.png", "inpainting.png"]
    assert not [path for path in folder.rglob("*") if path.name.endswith(".tmp")]
    assert set(report["versions"]) >= {"pcircuits", "torch"}
    assert report["data"]["levels"] == 17
    methods = {row["method"] for row in report["rows"]}
    assert methods == {"exact", "ancestral", "beam", "stochastic_beam", "encoded"}
    assert report["codebook"]["train"]["num_codes"] == 8
    assert report["inpainting"]["images"] == 60


def test_the_report_agrees_with_itself(report: dict[str, Any]) -> None:
    exact, *rows = report["rows"]
    assert (exact["method"], exact["reached"]) == ("exact", 8**4)
    assert exact["covered_mass"] == pytest.approx(1, abs=1e-6)
    assert exact["continuous_bpd"] <= report["own_codes"]["test"]["sum"] + 1e-6, "one code of all is a lower bound"
    for row in report["rows"]:
        assert 0 < row["covered_mass"] <= 1 + 1e-6
        assert row["sizes"]["circuit"] == row["reached"] * (2 * 64 + 1)
        assert row["reached"] <= row["asked"]
    for method in ("beam", "stochastic_beam", "ancestral"):
        masses = [row["covered_mass"] for row in rows if row["method"] == method and row["weights"] == "prior"]
        assert masses == sorted(masses), "prefixes are nested"


def test_the_demo_repeats_what_it_found(folder: Path, report: dict[str, Any], run: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.suffix in (".pc", ".png")}
    done = run("demo", "--smoke", "--epochs", "1", "--max-n", "16", "--out", folder)
    assert json.loads((folder / "report.json").read_text()) == report
    assert before == {path: path.stat().st_mtime_ns for path in before}
    row = report["rows"][-1]
    assert f"{row['continuous_bpd']:.3f} {row['discrete_bpd']:.3f} {row['covered_mass']:.3f}" in flat(done.output)


@pytest.mark.errors
def test_the_demo_refuses_a_folder_of_other_settings(folder: Path, run: Run) -> None:
    done = run("demo", "--smoke", "--epochs", "1", "--max-n", "16", "--seed", "1", "--out", folder, code=1)
    assert "seed: 0 there, 1 here" in flat(done.output)
    done = run("train", "--smoke", "--out", folder, code=1)
    assert "command: demo there, train here" in flat(done.output)


def test_a_row_is_what_its_circuit_file_gives(folder: Path, report: dict[str, Any]) -> None:
    row = next(row for row in report["rows"] if row["method"] == "stochastic_beam" and row["asked"] == 16)
    model = vq.load_circuit(str(folder / row["circuit"])).compile(dtype=torch.float64)
    data = vq.load("digits")
    images = data.test.images[:60]
    with torch.no_grad():
        assert continuous_bpd(model, images, 17) == pytest.approx(row["continuous_bpd"], abs=1e-6)
        assert discrete_bpd(model, images, 17) == pytest.approx(row["discrete_bpd"], abs=1e-6)
    prior = read_prior(folder)
    assert report["prior"]["identity"] == report["selections"]["stochastic_beam"]["prior"] == prior.identity
    assert row["sizes"]["teacher"] == sum(p.numel() for p in read_teacher(folder).parameters())


def test_evaluate_agrees_with_the_demo(folder: Path, report: dict[str, Any], run: Run) -> None:
    row = report["rows"][1]
    done = run("evaluate", folder / row["circuit"], "--images", "60")
    assert f"{row['continuous_bpd']:.3f} {row['discrete_bpd']:.3f}" in flat(done.output)
    found = json.loads(Path(f"runs/evaluate-{Path(row['circuit']).stem}/report.json").read_text())
    assert found["continuous_bpd"] == pytest.approx(row["continuous_bpd"], abs=1e-6)
    assert found["origin"]["covered_mass"] == pytest.approx(row["covered_mass"])


def test_distil_evaluate_sample_inpaint_one_after_the_other(folder: Path, run: Run, tmp_path: Path) -> None:
    done = run("distil", folder, "--select", "paper_beam", "--size", "8", "--weights", "bound", "--out", "c")
    assert "8 codes" in flat(done.output)
    circuit = Path("c/paper_beam-bound-8.pc")
    origin = json.loads(circuit.with_suffix(".json").read_text())
    assert (origin["dataset"], origin["method"], origin["reached"], origin["seed"]) == ("digits", "paper_beam", 8, 0)
    total = sum(vq.load_circuit(str(circuit)).root.weights.value.tolist())  # type: ignore[attr-defined]
    assert total == pytest.approx(origin["covered_mass"])
    assert "finished yes" in flat(run("info", "c").output)
    bits = float(re.search(r"entropy about (-?[0-9.]+)", flat(run("info", circuit).output))[1])  # type: ignore[index]
    whole = pc.normalise(vq.load_circuit(str(circuit))).compile(dtype=torch.float64)
    own = whole.sample(64, generator=torch.Generator().manual_seed(0))
    assert bits == pytest.approx(-whole.log_prob(own).mean().item() / math.log(2) / 64, abs=0.1)
    run("evaluate", circuit, "--split", "validation", "--images", "20")
    run("sample", circuit, "--count", "12")
    assert "finished yes" in flat(run("info", "runs/sample-paper_beam-bound-8").output)
    done = run("inpaint", circuit, "--hide", "centre", "--images", "10", "--rows", "2")
    assert "PSNR" in done.output
    for picture in ("runs/sample-paper_beam-bound-8/samples.png", "runs/inpaint-paper_beam-bound-8/inpainting.png"):
        assert (tmp_path / picture).stat().st_size > 0
    again = run("sample", circuit, "--count", "11", code=1)
    assert "count: 12 there, 11 here" in flat(again.output)


@pytest.mark.parametrize("method", ["exact", "ancestral", "beam", "stochastic_beam", "encoded"])
def test_distil_knows_every_selection(method: str, folder: Path, run: Run) -> None:
    run("distil", folder, "--select", method, "--size", "3", "--weights", "uniform", "--out", "c")
    circuit = pc.load(f"c/{method}-uniform-3.pc", types=(vq.DecoderSource,))
    reached = json.loads(Path(f"c/{method}-uniform-3.json").read_text())["reached"]
    assert reached == 3 or method == "encoded", "an untrained model's codes are all the same"
    assert circuit.root.weights.value.tolist() == pytest.approx([1 / reached] * reached)  # type: ignore[attr-defined]


def test_info_tells_what_things_are(folder: Path, report: dict[str, Any], run: Run) -> None:
    said = flat(run("info", folder).output)
    assert "vq-circuit demo" in said
    assert "beam-prior-(4, 16).pc" in said
    assert "sizes 4, 16" in said
    said = flat(run("info", folder / report["rows"][1]["circuit"], "--out", "i").output)
    assert "deterministic no" in said
    assert "smooth yes" in said
    assert "from digits, 4 codes by DMRS" in said
    assert json.loads(Path("i/info.json").read_text())["roots"] == 1
    assert "architecture VQVAE" in flat(run("info", folder / "vqvae.safetensors").output)
    assert "architecture PixelCNN" in flat(run("info", folder / "prior.safetensors").output)
    assert "stochastic_beam" in flat(run("info", folder / "selections" / "stochastic_beam.safetensors").output)
    assert "train" in flat(run("info", folder / "codes.safetensors").output)


def test_circuits_that_were_not_distilled_are_taken_too(run: Run) -> None:
    loc = torch.zeros(64, 2)
    pc.save(pc.Circuit(pc.Normal(range(64), loc, torch.ones(64, 2)).prod().sum([0.5, 0.5])), "hand.pc")
    assert "normalised yes" in flat(run("info", "hand.pc").output)
    assert "continuous" in run("evaluate", "hand.pc", "--dataset", "digits", "--images", "5").output
    run("sample", "hand.pc", "--count", "3")
    failed = run("evaluate", "hand.pc", "--out", "e", code=1)
    assert "--dataset" in failed.output


FAILURES: dict[str, tuple[list[str], str]] = {
    "no circuit": (["evaluate", "nothing.pc"], "nothing.pc"),
    "no folder": (["distil", "nowhere"], "nowhere has no settings.json"),
    "nothing to tell": (["info", "nowhere"], "there is nothing at nowhere"),
    "no device": (
        ["demo", "--smoke", "--device", "cuda:99"],
        "there is no device 'cuda:99' here: take 'cpu'",
    ),
    "no images": (["demo", "--dataset", "mnist", "--data-root", "nowhere"], "--download"),
    "a file as folder": (["train", "--smoke", "--out", "file/below"], "file"),
    "no model": (["info", "text.safetensors"], "truncated"),
    "no circuit in it": (["sample", "text.pc"], "text.pc"),
}


@pytest.mark.errors
@pytest.mark.parametrize("name", FAILURES)
def test_a_users_error_is_one_line_and_no_traceback(name: str, run: Run) -> None:
    for file in ("file", "text.safetensors", "text.pc"):
        Path(file).write_text("no tensors here")
    arguments, said = FAILURES[name]
    done = run(*arguments, code=1)
    errors = [line for line in done.output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert said in errors[0]
    assert "Traceback" not in done.output


@pytest.mark.errors
@pytest.mark.parametrize(
    "arguments",
    [["demo", "--epochs", "0"], ["demo", "--seed", "-1"], ["evaluate"], ["train", "--dataset", "faces"], ["sing"]],
)
def test_wrong_usage_is_exit_code_two(arguments: list[str], run: Run) -> None:
    run(*arguments, code=2)


@pytest.mark.errors
def test_a_circuit_of_other_images_and_a_strangers_note_are_refused(folder: Path, run: Run) -> None:
    loc = torch.zeros(4, 1)
    pc.save(pc.Circuit(pc.Normal(range(4), loc, torch.ones(4, 1)).prod().sum([1.0])), "four.pc")
    assert "64 pixels" in flat(run("evaluate", "four.pc", "--dataset", "digits", code=1).output)
    source = folder / "circuits" / "beam-prior-4"
    Path("four.json").write_bytes(source.with_suffix(".json").read_bytes())
    assert "does not belong" in flat(run("info", "four.pc", code=1).output)


@pytest.mark.errors
def test_distilling_more_codes_than_there_are_names_their_number(folder: Path, run: Run) -> None:
    failed = run("distil", folder, "--size", "5000", "--out", "c", code=1)
    assert "4,096" in failed.output


@pytest.mark.errors
def test_an_interrupt_says_that_it_resumes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(vq, "fit", interrupt)
    done = run("train", "--smoke", "--out", "t", code=130)
    assert "after its last whole epoch" in flat(done.output)
    assert "Traceback" not in done.output


@pytest.mark.parametrize("command", ["demo", "train", "distil", "evaluate", "sample", "inpaint", "info"])
def test_help_has_an_example_and_the_shared_options(command: str, run: Run) -> None:
    said = flat(run(command, "--help").output)
    assert f"Example: vq-circuit {command}" in said
    for option in ("--seed", "--device", "--out"):
        assert option in said


@pytest.mark.errors
def test_without_typer_the_command_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from vq_sources.cli import main

    monkeypatch.setitem(__import__("sys").modules, "typer", None)
    with pytest.raises(SystemExit) as raised:
        main()
    assert raised.value.code == 1
    assert 'pip install "pcircuits[vq]"' in capsys.readouterr().err
