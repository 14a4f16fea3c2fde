"""Ways of choosing codes: each is one file, and one function from a prior and a number to a `CodeSet`."""

from vq_sources.selection.ancestral_sampling import ancestral
from vq_sources.selection.beam_search import beam
from vq_sources.selection.encoded_codes import encoded, encoded_in_order
from vq_sources.selection.enumeration import enumerate
from vq_sources.selection.paper_beam_search import paper_beam
from vq_sources.selection.stochastic_beam_search import log_inclusion, stochastic_beam

__all__ = [
    "ancestral",
    "beam",
    "encoded",
    "encoded_in_order",
    "enumerate",
    "log_inclusion",
    "paper_beam",
    "stochastic_beam",
]
