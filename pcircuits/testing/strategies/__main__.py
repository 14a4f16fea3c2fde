"""`python -m pcircuits.testing.strategies [N]`: how deep and how shared the circuits are that `circuits()` draws."""

from __future__ import annotations

import sys

from pcircuits.testing.strategies.histogram import examples, histogram
from pcircuits.testing.strategies.random_circuits import circuits

if __name__ == "__main__":
    print(histogram(examples(circuits(max_roots=3), int(sys.argv[1]) if len(sys.argv) > 1 else 300)))
