"""Generators and whole numbers: what is taken for one, and what is said of anything else."""

import numpy as np
import pytest
import torch

import pcircuits as pc
from pcircuits import structures
from pcircuits.arguments import as_generator, whole_number
from pcircuits.learning import FitSettings

pytestmark = pytest.mark.errors
GRAPH, LEAVES = structures.quad_graph(2, 2), structures.categorical_leaves(3)


def test_generators_pass_as_they_are():
    generator = torch.Generator()
    assert as_generator(generator) is generator
    assert as_generator(None) is None


@pytest.mark.parametrize("seed", [7, np.int64(7), torch.tensor(7)])
@pytest.mark.parametrize(
    "draw",
    [
        as_generator,
        lambda seed: structures.layered(GRAPH, LEAVES, 2, generator=seed),
        lambda seed: structures.random_binary_tree(range(4), 1, 1, seed),
        lambda seed: structures.RandomSimplices(seed),
        lambda seed: structures.normal_leaves()(["a"], 2, seed),
        lambda seed: LEAVES(["a"], 2, seed),
        lambda seed: pc.families.Normal().draw({"loc": torch.zeros(1), "scale": torch.ones(1)}, seed),
    ],
)
def test_a_seed_is_not_a_generator(draw, seed):
    with pytest.raises(
        pc.CircuitError, match=r"generator is a torch\.Generator, not .*: torch\.Generator\(\)\.manual_seed\(7\)"
    ):
        draw(seed)


def test_what_is_no_seed_either():
    with pytest.raises(
        pc.CircuitError, match=r"rng is a torch\.Generator, not 'mt19937': .*manual_seed\(0\) makes one"
    ):
        as_generator("mt19937", "rng")


def test_without_a_generator_the_global_one_draws():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        one = structures.random_binary_tree(range(8), 1, 1, None)
        torch.manual_seed(3)
        two = structures.random_binary_tree(range(8), 1, 1, None)
    assert one.scopes == two.scopes


@pytest.mark.parametrize("number", [3, np.int64(3), np.uint8(3), torch.tensor(3)])
def test_whole_numbers_of_every_library(number):
    found = whole_number(number, "n", least=3)
    assert found == 3
    assert type(found) is int


@pytest.mark.parametrize("number", [2, -1, 3.0, np.float64(3), "3", None, True, torch.tensor(3.0), [3]])
def test_what_is_no_whole_number(number):
    with pytest.raises(pc.CircuitError, match=r"n is .*: it must be an integer >= 3"):
        whole_number(number, "n", least=3)
    with pytest.raises(pc.ParameterError, match="levels is"):
        whole_number(number, "levels", least=3, error=pc.ParameterError)


def test_settings_keep_numbers_of_numpy_as_ints():
    settings = FitSettings(epochs=np.int64(3), batch_size=np.int32(5), seed=np.uint8(2))
    assert settings == FitSettings(epochs=3, batch_size=5, seed=2)
    assert type(settings.epochs) is type(settings.seed) is int
