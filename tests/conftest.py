"""Tensor signatures are checked at run time, but in tests of errors, which run as a user's code does.

Not in the symbolic layer, which has no tensors to check: hypothesis builds circuits inside of strategies, where the
checker's own random look-ups into containers are forbidden.
"""

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


def pytest_configure(config: pytest.Config) -> None:
    """Tests that take minutes or need files are asked for by name (-m slow, -m needs_images)."""
    if not config.option.markexpr:
        config.option.markexpr = "not slow and not needs_images"
