"""Hypothesis strategies: random circuits, with and without properties, and evidence for them."""

try:
    import hypothesis  # noqa: F401
except ImportError as error:
    raise ImportError('pcircuits.testing.strategies needs hypothesis: pip install "pcircuits[test]"') from error

from pcircuits.testing.strategies.broken import broken_circuits
from pcircuits.testing.strategies.deterministic import deterministic_circuits
from pcircuits.testing.strategies.evidence import boxes, evidence, rows
from pcircuits.testing.strategies.histogram import examples, histogram, is_shared
from pcircuits.testing.strategies.random_circuits import circuits

__all__ = [
    "boxes",
    "broken_circuits",
    "circuits",
    "deterministic_circuits",
    "evidence",
    "examples",
    "histogram",
    "is_shared",
    "rows",
]
