"""The circuits of every builder keep what the library promises of circuits."""

from pcircuits.testing import check_structure


def test_circuits_conform(case):
    check_structure(case.circuit, rows=2, draws=500)
