"""Images as integers in fixed splits, and what models make of them: points of pixel bins, and codes."""

from vq_sources.data.dataset import Dataset, Split
from vq_sources.data.encoded import EncodedDataset, EncodedSplit
from vq_sources.data.load import DATASETS, load
from vq_sources.data.pixels import dequantise, scale

__all__ = [
    "DATASETS",
    "Dataset",
    "EncodedDataset",
    "EncodedSplit",
    "Split",
    "dequantise",
    "load",
    "scale",
]
