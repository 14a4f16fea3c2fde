"""The suite for sources, on right ones and on ones that are broken on purpose."""

import pytest
import torch
from torch import nn

import pcircuits as pc
from pcircuits.circuit.selected_regions import SelectedRegions
from pcircuits.testing import check_source


class Decoder(nn.Module):
    """Normal parameters from a small network over fixed codes."""

    def __init__(self, regions=3, columns=5):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("codes", torch.randn(columns, 2, generator=generator, dtype=torch.float64))
        self.register_buffer("calls", torch.zeros(()))
        self.weight = nn.Parameter(torch.randn(2, 2, regions, generator=generator, dtype=torch.float64))

    def parameters_for(self, columns):
        loc, raw = torch.einsum("nc,cpv->pvn", self.codes[columns], self.weight)
        return {"loc": loc, "scale": (0.2 * raw).exp()}


class Table(nn.Module):
    """Categorical parameters as they are stored."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1)))

    def parameters_for(self, columns):
        return {"probs": self.logits[:, columns].softmax(-1)}


def test_sources_conform():
    check_source(Decoder(), pc.families.Normal(), 5)
    check_source(Table(), pc.families.Categorical(3), 4)
    check_source(SelectedRegions(Decoder(), [2, 0]), pc.families.Normal(), 5)


def test_the_mode_is_left_as_it_was():
    source = Decoder().eval()
    check_source(source, pc.families.Normal(), 5)
    assert not source.training


class ScaledByTheChunk(Decoder):
    def parameters_for(self, columns):
        made = super().parameters_for(columns)
        return {**made, "loc": made["loc"] - made["loc"].mean()}


class InOrderOnly(Decoder):
    def parameters_for(self, columns):
        return super().parameters_for(columns.sort().values)


class Dropout(Decoder):
    def parameters_for(self, columns):
        made = super().parameters_for(columns)
        return {**made, "loc": nn.functional.dropout(made["loc"], 0.5, self.training)}


class Doubles(Decoder):
    def parameters_for(self, columns):
        made = super().parameters_for(columns)
        return {**made, "scale": made["scale"] * (2 if self.training else 1)}


class Counts(Decoder):
    def parameters_for(self, columns):
        self.calls += 1
        return super().parameters_for(columns)


class Transposed(Decoder):
    def parameters_for(self, columns):
        return {name: value.T for name, value in super().parameters_for(columns).items()}


class Negative(Decoder):
    def parameters_for(self, columns):
        made = super().parameters_for(columns)
        return {**made, "scale": made["scale"] - 2.0}


class Detached(Decoder):
    def parameters_for(self, columns):
        return {name: value.detach() for name, value in super().parameters_for(columns).items()}


class ChunkedGradient(Decoder):
    def parameters_for(self, columns):
        made = super().parameters_for(columns)
        return {name: value if len(columns) > 1 else value.detach() + 0 * value for name, value in made.items()}


class NoScale(Decoder):
    def parameters_for(self, columns):
        return {"loc": super().parameters_for(columns)["loc"]}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (ScaledByTheChunk, "loc, when columns are asked for one by one"),
        (InOrderOnly, "in reverse"),
        (Dropout, "loc"),
        (Doubles, "scale in mode eval"),
        (Counts, "calls has moved"),
        (Transposed, "have the shapes"),
        (Detached, "no gradient flows"),
        (ChunkedGradient, "gradient of weight, columns asked for one by one"),
        (NoScale, "the source makes"),
    ],
)
def test_the_suite_finds_broken_sources(broken, message):
    with pytest.raises(AssertionError, match=message):
        check_source(broken(), pc.families.Normal(), 5)


def test_parameters_outside_their_constraints_are_named():
    with pytest.raises(pc.ParameterError, match="scale of the source"):
        check_source(Negative(), pc.families.Normal(), 5)


def test_what_is_no_source_is_refused():
    with pytest.raises(AssertionError, match="no method parameters_for"):
        check_source(nn.Linear(2, 2), pc.families.Normal(), 2)
