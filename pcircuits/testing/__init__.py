"""Tools for testing circuits and what they are made of: a slow oracle, random circuits, and conformance suites.

`check_family`, `check_structure` and `check_source` hold what users write to what the library promises; priors and VQ
models have theirs in `vq_sources.testing`. The strategies (`pcircuits.testing.strategies`) need hypothesis: `pip install
"pcircuits[test]"`.
"""

from pcircuits.testing.agreement import Agreement
from pcircuits.testing.families import check_family
from pcircuits.testing.oracle import Best, Enumeration, Oracle
from pcircuits.testing.sources import check_source
from pcircuits.testing.structures import check_structure

__all__ = ["Agreement", "Best", "Enumeration", "Oracle", "check_family", "check_source", "check_structure"]
