"""What the engine is tested against: the queries once more, in plain Python over the symbolic graph."""

from pcircuits.testing.oracle.enumeration import Enumeration
from pcircuits.testing.oracle.leaves import LEAVES, Build, FiniteLeaf, Leaf, NormalLeaf
from pcircuits.testing.oracle.oracle import Best, Oracle, Row

__all__ = ["LEAVES", "Best", "Build", "Enumeration", "FiniteLeaf", "Leaf", "NormalLeaf", "Oracle", "Row"]
