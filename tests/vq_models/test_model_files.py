"""Models in files: exact, whole or absent, and refused where they do not fit."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pcircuits.errors import FileFormatError, ParameterError
from pcircuits.families import DiscretizedLogistic, Normal
from vq_sources.models import VQVAE, VQVAEConfig, load_model, save_model
from vq_sources.models.files import config_from_dict, config_to_dict
from vq_sources.quantizers.seeding import seeded

KNOWN = {"VQVAE": (VQVAEConfig, VQVAE)}


@dataclass(frozen=True)
class OtherConfig:
    sizes: tuple[int | tuple[int, ...], ...] = (1, (2, 3))
    name: str | None = None


class Other(nn.Module):
    def __init__(self, config: OtherConfig) -> None:
        super().__init__()
        self.config = config
        self.layer = nn.Linear(2, 2)


@pytest.fixture
def model() -> VQVAE:
    config = VQVAEConfig(
        data_shape=(4, 6), grid=(2, 3), levels=4, num_codes=3, hidden=8, family=DiscretizedLogistic(4, uniform=0.01)
    )
    model = VQVAE(config, torch.Generator().manual_seed(0))
    with seeded(torch.Generator().manual_seed(0)):
        model.prepare((torch.randint(4, (30, 4, 6)),))
        model.train().loss((torch.randint(4, (30, 4, 6)),))
    return model


def test_a_model_comes_back_exactly(model: VQVAE, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(model, path)
    state = torch.get_rng_state()
    back = load_model(path, KNOWN)
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(back, VQVAE)
    assert back.config == model.config
    assert not back.training
    assert back.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in back.state_dict().items())
    codes = torch.randint(3, (20, 6), generator=torch.Generator().manual_seed(0))
    assert torch.equal(back.likelihood(codes)["scale"], model.likelihood(codes)["scale"])
    assert [each.name for each in tmp_path.iterdir()] == ["model.safetensors"]


def test_float64_and_unprepared_models_come_back_as_they_are(model: VQVAE, tmp_path: Path) -> None:
    save_model(model.double(), tmp_path / "double")
    assert next(load_model(tmp_path / "double", KNOWN).parameters()).dtype == torch.float64
    fresh = VQVAE(VQVAEConfig(), torch.Generator().manual_seed(0))
    save_model(fresh, tmp_path / "fresh")
    back = load_model(tmp_path / "fresh", KNOWN)
    assert isinstance(back, VQVAE)
    assert not back.quantizer.initialised


def test_other_architectures_are_refused_and_can_be_registered(tmp_path: Path) -> None:
    path = tmp_path / "other"
    other = Other(OtherConfig())
    save_model(other, path)
    with pytest.raises(FileFormatError, match="architecture 'Other', where 'VQVAE' is needed"):
        load_model(path, KNOWN)
    back = load_model(path, {**KNOWN, "Other": (OtherConfig, Other)})
    assert isinstance(back, Other)
    assert back.config == other.config


def test_damaged_and_foreign_files_are_refused(model: VQVAE, tmp_path: Path) -> None:
    path = tmp_path / "model"
    save_model(model, path)
    # Cloned: what safetensors loads is a view of the file, which is about to be overwritten.
    whole, state = path.read_bytes(), {name: value.clone() for name, value in load_file(path).items()}
    for content in (b"", whole[:5], whole[: len(whole) // 2], b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match="cannot be read as a model"):
            load_model(path, KNOWN)
    save_file(state, path)
    with pytest.raises(FileFormatError, match="not a model that save_model wrote"):
        load_model(path, KNOWN)
    header = {"format": "vq_sources.model", "version": "2", "architecture": "VQVAE", "config": "{}"}
    save_file(state, path, metadata=header)
    with pytest.raises(FileFormatError, match=r"version '2' .* up to 1"):
        load_model(path, KNOWN)
    for config in ("{}", "{", '{"new_option": 1}', '{"num_codes": 1}', '{"family": {"family": "Cauchy"}}'):
        save_file(state, path, metadata={**header, "version": "1", "config": config})
        with pytest.raises(FileFormatError, match="does not hold a VQVAE that this version can rebuild"):
            load_model(path, KNOWN)
    with pytest.raises(FileNotFoundError, match="no model file"):
        load_model(tmp_path / "absent", KNOWN)


def test_a_failed_write_leaves_the_old_file(model: VQVAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model"
    save_model(model, path)
    before = path.read_bytes()
    monkeypatch.setattr("vq_sources.models.files.save", lambda state, metadata: "not bytes")
    with pytest.raises(TypeError, match="bytes-like"):
        save_model(model, path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["model"]


def test_configs_go_through_plain_values() -> None:
    config = VQVAEConfig(family=Normal(), min_std=0.1, grid=(4, 4))
    assert config_from_dict(VQVAEConfig, config_to_dict(config)) == config
    other = OtherConfig(sizes=(4, (5, 6)), name="x")
    assert config_from_dict(OtherConfig, config_to_dict(other)) == other


def test_what_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Mine(Normal):
        name = "Mine"

    own = VQVAE(VQVAEConfig(data_shape=(4, 4), grid=(1, 1), num_codes=2, hidden=8, family=Mine()))
    for model, said in ((own, "'Mine' is not one of the library's"), (nn.Linear(1, 1), "has no `config`")):
        with pytest.raises(ParameterError, match=said):
            save_model(model, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())
