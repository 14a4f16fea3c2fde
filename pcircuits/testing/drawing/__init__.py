"""Random circuits and rows from a stream of choices: of a numpy seed, quickly, or of hypothesis, which shrinks."""

from pcircuits.testing.drawing.choices import Choices, Seeded
from pcircuits.testing.drawing.diagrams import draw_deterministic
from pcircuits.testing.drawing.growing import draw_circuit
from pcircuits.testing.drawing.layered import draw_layered
from pcircuits.testing.drawing.values import draw_rows, telling_values

__all__ = ["Choices", "Seeded", "draw_circuit", "draw_deterministic", "draw_layered", "draw_rows", "telling_values"]
