"""Configs come from JSON and NumPy too: what is meant is taken, anything else is an error that names the field."""

import json

import numpy as np
import pytest
import torch

import vq_sources as vq
from vq_sources.data import Dataset, EncodedDataset, EncodedSplit, Split
from vq_sources.errors import ConfigError, DataError
from vq_sources.models import config_from_dict, config_to_dict

pytestmark = pytest.mark.errors


def seeded():
    return torch.Generator().manual_seed(0)


def images(n=40):
    return torch.randint(17, (n, 8, 8), generator=seeded())


@pytest.mark.parametrize(
    "config",
    [
        vq.VQVAEConfig(grid=(4, 2), num_codes=5, min_std=0.1),
        vq.VQVAEConfig(family=vq.models.config.Normal()),
        vq.PixelCNNConfig((2, 2), 4, num_classes=3),
        vq.PixelCNNConfig((1, 2), (3, 4), layers=2),
    ],
    ids=str,
)
def test_configs_go_through_json(config):
    stored = json.loads(json.dumps(config_to_dict(config)))
    assert config_from_dict(type(config), stored) == config


def test_lists_and_numpy_integers_are_numbers_of_a_config():
    plain = json.loads('{"data_shape": [8, 8], "grid": [2, 2], "num_codes": 4, "hidden": 8}')
    config = vq.VQVAEConfig(**plain)
    assert config == vq.VQVAEConfig(data_shape=(8, 8), grid=(2, 2), num_codes=4, hidden=8)
    other = vq.VQVAEConfig(
        grid=np.array([2, 2]).tolist(), num_codes=np.int32(4), hidden=np.int64(8), min_std=np.float32(0.5)
    )
    assert json.loads(json.dumps(config_to_dict(other)))["num_codes"] == 4
    model = vq.VQVAE(config, seeded())
    model.prepare((images(),))
    assert model.encode(images(3)).shape == (3, 4)
    prior = vq.PixelCNN([2, 2], np.int64(4), num_classes=np.int64(2), hidden=8, generator=seeded())
    assert (prior.grid, prior.cardinalities, prior.num_classes) == ((2, 2), (4, 4, 4, 4), 2)
    json.dumps(prior.settings())
    split = Split(images(3), torch.tensor([0, 1, 1]))
    assert Dataset("own", np.int64(17), [8, 8], 2, split, split, split).shape == (8, 8)
    codes = EncodedSplit(model.encode(images(3)), torch.tensor([0, 1, 1]))
    assert EncodedDataset("own", [2, 2], [4] * 4, 2, codes, codes, codes).grid == (2, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_codes": 4.0}, {"num_codes": "16"}, {"num_codes": True}, {"num_codes": None},
        {"hidden": 8.0}, {"levels": 17.0}, {"blocks": 1.5}, {"codebook_dim": "4"},
        {"grid": 2}, {"grid": (2, 2, 2)}, {"grid": "22"}, {"grid": (2.0, 2)}, {"data_shape": ["8", "8"]},
        {"min_std": "0.01"}, {"decay": None}, {"commitment_weight": "1"}, {"dead_code_threshold": torch.inf},
    ],
    ids=str,
)  # fmt: skip
def test_other_things_than_numbers_name_the_field(changes):
    (name,) = changes
    with pytest.raises(ConfigError, match=f"VQVAEConfig: {name} is"):
        vq.VQVAEConfig(**changes)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: vq.PixelCNN((2, 2), 4.0), "num_codes is 4.0: it must be an integer"),
        (lambda: vq.PixelCNN((2, 2), "4"), "num_codes is '4': it must be an integer"),
        (lambda: vq.PixelCNN((2, 2), 4, num_classes=2.0), "num_classes is 2.0: it must be an integer"),
        (lambda: vq.PixelCNN((2, 2), 4, hidden="8"), "hidden is '8': it must be an integer"),
        (lambda: vq.PixelCNNConfig((2, 2), 4, dropout="0.1"), "dropout is '0.1'; it must be a finite number"),
        (lambda: vq.PixelCNNConfig(4, 4), "grid is 4; it must be two"),
        (lambda: vq.IndependentPrior((2,), 4), "two numbers"),
        (lambda: vq.IndependentPrior((2, 2), [4, 4, 4, 4.0]), "num_codes is 4.0"),
        (lambda: config_from_dict(vq.VQVAEConfig, {"num_kodes": 4}), "no field 'num_kodes': its fields are data_shape"),
        (lambda: config_from_dict(vq.PixelCNNConfig, {"grid": [2, 2]}), "'num_codes', which is missing"),
        (lambda: config_from_dict(vq.VQVAEConfig, [8, 8]), "mapping of its fields"),
        (lambda: config_from_dict(vq.VQVAEConfig, {"family": {"family": "Cauchy"}}), "no family 'Cauchy'"),
        (lambda: config_from_dict(vq.VQVAEConfig, {"family": {"family": "Normal", "levels": 3}}), "no field 'levels'"),
    ],
    ids=range(13),
)
def test_configs_that_are_none_are_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0, 1, 1], "labels must be a tensor of integers, not list"),
        (np.array([0, 1, 1]), "not ndarray"),
        (torch.zeros(3), "labels must be integers, not torch.float32"),
        (torch.zeros(3, dtype=torch.bool), "labels must be integers, not torch.bool"),
        (torch.zeros(3, 1, dtype=torch.int64), r"shape \(3,\), one for each row, not torch.int64 \(3, 1\)"),
        (torch.tensor([0, -1, 0]), "label 1 is -1"),
    ],
    ids=["list", "numpy", "float", "bool", "column", "negative"],
)
def test_labels_of_other_kinds_are_refused(labels, said):
    good = Split(images(3), torch.tensor([0, 1, 1]))
    with pytest.raises(DataError, match=said):
        Dataset("own", 17, (8, 8), 2, Split(images(3), labels), good, good)


@pytest.mark.parametrize(
    "wrong",
    [
        images(3).numpy(), images(3).tolist(), images(3) / 16, images(3).half(), images(3).bfloat16(),
        images(3).to(torch.complex64), images(3)[0], images(3)[:, None], images(3).bool(), images(3).to_sparse(),
    ],
    ids=["numpy", "list", "float", "half", "bfloat16", "complex", "one image", "channels", "bool", "sparse"],
)  # fmt: skip
def test_images_of_other_kinds_are_refused_by_models(wrong):
    model = vq.VQVAE(vq.VQVAEConfig(num_codes=3, hidden=8), seeded())
    model.prepare((images(),))
    for use in (model.encode, lambda x: model.loss((x,)), lambda x: model.prepare((x,))):
        with pytest.raises(DataError, match=r"images must (be|have)"):
            use(wrong)
