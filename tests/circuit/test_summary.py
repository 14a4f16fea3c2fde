"""What a circuit costs."""

import torch
from torch import nn

import pcircuits as pc


class Made(nn.Module):
    """A source of normal leaves."""

    def parameters_for(self, columns):
        shape = (3, len(columns))
        return {"loc": torch.zeros(shape), "scale": torch.ones(shape)}


def test_a_hand_built_circuit():
    wet = [pc.Bernoulli("wet", 0.1), pc.Bernoulli("wet", 0.9)]
    root = 0.8 * (pc.Indicator("rain", 0) * wet[0]) + 0.2 * (pc.Indicator("rain", 1) * wet[1])
    summary = pc.Circuit(root).summary()
    assert (summary.variables, summary.inputs, summary.sums, summary.products) == (2, 4, 1, 2)
    assert summary.units == 7
    assert summary.edges == 6
    assert summary.parameters == 2 + 2 + 2  # probabilities, states, weights
    assert summary.depth == 2
    assert summary.largest == 1


def test_arrays():
    pixels = pc.Normal(range(10), torch.zeros(10, 4), torch.ones(1, 4))
    summary = pc.Circuit(pixels.prod().sum(torch.ones(3, 4))).summary()
    assert (summary.inputs, summary.products, summary.sums) == (40, 4, 3)
    assert summary.edges == 40 + 12
    assert summary.parameters == 40 + 40 + 12
    assert summary.largest == 40
    assert summary.largest_array == "Input(10, 4)"


def test_wiring_costs_nothing_and_tied_parameters_count_once():
    probs = pc.Parameter(torch.tensor([[0.1, 0.2]]), pc.unit_interval)
    a, b = pc.Bernoulli("a", probs), pc.Bernoulli("b", probs)
    summary = pc.Circuit(a[0, [1, 0]] * b[0, [0, 0]]).summary()
    assert summary.parameters == 2
    assert summary.units == 4 + 2
    assert summary.edges == 4
    assert summary.depth == 1


def test_what_a_source_makes_is_counted_apart():
    made = pc.inputs(pc.families.Normal(), range(3), pc.Sourced(Made(), 3, 5))
    summary = pc.Circuit(made.prod().sum([0.2] * 5)).summary()
    assert summary.sourced_parameters == 2 * 3 * 5
    assert summary.parameters == 5
    assert "30 made by a source" in str(summary)


class MadeTables(nn.Module):
    """A source of categorical leaves."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(2, 5, 256))

    def parameters_for(self, columns):
        return {"probs": torch.softmax(self.logits[:, columns], -1)}


def test_all_numbers_of_the_events_that_a_source_makes_are_counted():
    made = pc.inputs(pc.families.Categorical(256), ["a", "b"], pc.Sourced(MadeTables(), 2, 5))
    summary = pc.Circuit(made.prod().sum([0.2] * 5)).summary()
    assert summary.sourced_parameters == 2 * 5 * 256
    one = pc.Circuit(made[0].sum([0.2] * 5))
    assert pc.normalise(one).summary().sourced_parameters == 5 * 256


def test_in_words():
    text = str(pc.Circuit(pc.Normal(range(1000), torch.zeros(1000, 2), 1.0).prod().sum([0.5, 0.5])).summary())
    assert text == (
        "1,000 variables, 2,003 units (2,000 inputs, 1 sums, 2 products), 2,002 edges, 4,002 parameters, depth 2; "
        "largest intermediate 2,000 numbers a row (Input(1000, 2))"
    )
