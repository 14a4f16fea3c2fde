"""What a distilled model looks like on paper: the table, the pictures, and the report with all numbers."""

from vq_sources.report.curves import bpd_curves
from vq_sources.report.document import read_json, versions, write_bytes, write_json
from vq_sources.report.rows import Row, method_name
from vq_sources.report.sheets import picture_inpainting, picture_samples
from vq_sources.report.table import results_table

__all__ = [
    "Row",
    "bpd_curves",
    "method_name",
    "picture_inpainting",
    "picture_samples",
    "read_json",
    "results_table",
    "versions",
    "write_bytes",
    "write_json",
]
