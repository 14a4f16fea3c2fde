"""Visits on the days of a week: a family and a source that the library does not have."""

from visits.decoder import RateDecoder
from visits.poisson import Poisson

__all__ = ["Poisson", "RateDecoder"]
