"""A conformance suite for families of distributions: the library's own, and those that users write."""

from pcircuits.testing.families.check import check_family

__all__ = ["check_family"]
