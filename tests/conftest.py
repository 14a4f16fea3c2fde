"""Tensor signatures are checked at run time, but in tests of errors, which run as a user's code does.

Not in the symbolic layer, which has no tensors to check: hypothesis builds circuits inside of strategies, where the
checker's own random look-ups into containers are forbidden.
"""

import fnmatch
import os
from collections.abc import Iterator

import hypothesis
import pytest
from jaxtyping import config, install_import_hook

CHECKED = ["pcircuits.evidence", "pcircuits.families", "pcircuits.learning", "pcircuits.queries", "vq_sources"]
install_import_hook(CHECKED, "beartype.beartype")

import torch  # noqa: E402

# In CI the drawn cases are the same in every run, and a slow machine is no failure; elsewhere they differ.
hypothesis.settings.register_profile(
    "ci", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.fixture(autouse=True)
def _as_users_run_it(request: pytest.FixtureRequest) -> Iterator[None]:
    """Without the checks of signatures where a test is about errors: `@pytest.mark.errors`."""
    if request.node.get_closest_marker("errors") is None:
        yield
        return
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def _one_default_dtype() -> Iterator[None]:
    """Tests compute in float64, and leave nothing of that behind."""
    before = torch.get_default_dtype()
    yield
    assert torch.get_default_dtype() is before, "a test changed torch's default dtype"


FAST = (
    "tests/bad_input/test_bad_evidence.py::*",
    "tests/bad_input/test_bad_parameters.py::*",
    "tests/bad_input/test_bad_scopes.py::*",
    "tests/circuit/test_algebra.py::*",
    "tests/circuit/test_log_parameters.py::*",
    "tests/circuit/test_kinds.py::*",
    "tests/evidence/test_forms.py::*",
    "tests/families/test_discretized.py::*",
    "tests/families/test_normal.py::*",
    "tests/io/test_models_and_open_files.py::*",
    "tests/learning/test_fit.py::*",
    "tests/program/test_changes.py::*mixture*",
    "tests/program/test_extreme_numbers.py::*rewritten*",
    "tests/program/test_killed_by_mutants.py::*",
    "tests/program/test_scaled_values.py::*-0-torch.float*",
    "tests/program/test_training.py::*",
    "tests/queries/test_far_out.py::*1e4*",
    "tests/queries/test_query_errors.py::*",
    "tests/queries/test_query_table.py::*all rewrites*",
    "tests/structures/test_region_builders.py::*",
    "tests/test_floors.py::*",
    "tests/vq_data/test_pixels.py::*",
    "tests/vq_distil/test_distil.py::*",
    "tests/vq_models/test_vqvae.py::*",
    "tests/vq_priors/test_prior_suite.py::*independent*",
    "tests/vq_quantizers/*",
    "tests/vq_selection/test_codes.py::*",
)
"""The tests that are marked `fast`: of every folder that tests how something behaves, what takes milliseconds."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the fast part."""
    for item in items:
        plain = item.nodeid.replace("[", "(").replace("]", ")")  # brackets are sets of letters to fnmatch
        if any(fnmatch.fnmatchcase(plain, pattern) for pattern in FAST):
            item.add_marker("fast")


def pytest_configure(config: pytest.Config) -> None:
    """Tests that take minutes or need files are asked for by name (-m slow, -m needs_images)."""
    if not config.option.markexpr:
        config.option.markexpr = "not slow and not needs_images"
