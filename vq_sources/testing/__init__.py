"""Conformance suites for priors over codes and for VQ models: the library's own, and those that users write."""

from vq_sources.testing.models import check_vq_source
from vq_sources.testing.priors import check_prior

__all__ = ["check_prior", "check_vq_source"]
