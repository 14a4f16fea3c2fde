"""Visits on the days of a week: a family and a source that the library does not have."""

from visits.decoder import RateDecoder
from visits.zero_inflated_poisson import ZeroInflatedPoisson

__all__ = ["RateDecoder", "ZeroInflatedPoisson"]
