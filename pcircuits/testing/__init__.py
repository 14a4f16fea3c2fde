"""Tools for testing circuits and families: a slow oracle, and strategies that draw random circuits.

The strategies (`pcircuits.testing.strategies`) need hypothesis: `pip install "pcircuits[test]"`.
"""

from pcircuits.testing.oracle import Best, Enumeration, Oracle

__all__ = ["Best", "Enumeration", "Oracle"]
