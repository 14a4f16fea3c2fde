"""Sources of tables, of series and of two grids: the protocol knows nothing of images."""

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

import pcircuits as pc
import vq_sources as vq
from pcircuits.errors import ParameterError
from pcircuits.testing import check_structure
from vq_sources.protocols import grid_of, leaf_groups
from vq_sources.testing import check_vq_source


@dataclass(frozen=True)
class TableConfig:
    """How many codes there are."""

    codes: tuple[int, int] = (2, 3)


class Table(nn.Module):
    """Two codes for a row of four columns of three families; the first code decides two of them, out of order."""

    variables: ClassVar = {
        "age": pc.families.Normal(),
        "kind": pc.families.Categorical(3),
        "ill": pc.families.Bernoulli(),
        "weight": pc.families.Normal(),
    }
    patches = ((0, 2), (1, 3))

    def __init__(self, config=None):
        super().__init__()
        self.config = config or TableConfig()
        self.cardinalities = self.config.codes
        generator = torch.Generator().manual_seed(0)
        self.raw = nn.Parameter(torch.randn((3, 4, 3), generator=generator, dtype=torch.float64))

    def encode(self, x):
        return torch.stack([(x[:, 0] > 0).long(), x[:, 1].long()], 1)

    def likelihood(self, codes):
        raw = self.raw[codes[:, [0, 1, 0, 1]], torch.arange(4)]  # (N, 4, 3)
        normals = raw[:, [0, 3]]
        return {
            pc.families.Categorical(3): {"probs": raw[:, 1:2].softmax(-1)},
            pc.families.Normal(): {"loc": normals[..., 0], "scale": normals[..., 1].exp()},
            pc.families.Bernoulli(): {"probs": raw[:, 2:3, 0].sigmoid()},
        }


def rows(n=6):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((n, 4), generator=generator, dtype=torch.float64)
    x[:, 1] = torch.randint(3, (n,), generator=generator)
    x[:, 2] = torch.randint(2, (n,), generator=generator)
    return x


def by_hand(table, x, log_prior):
    """log Σ_z p(z) p(x | z), written out for the four columns."""
    raw, totals = table.raw.tolist(), []
    for age, kind, ill, weight in x.tolist():
        total = 0.0
        for (i, j), log_p in log_prior.items():
            loc, log_scale, _ = raw[i][0]
            p = math.exp(-0.5 * ((age - loc) / math.exp(log_scale)) ** 2 - log_scale) / math.sqrt(2 * math.pi)
            p *= math.exp(raw[j][1][int(kind)]) / sum(map(math.exp, raw[j][1]))
            sick = 1 / (1 + math.exp(-raw[i][2][0]))
            p *= sick if ill else 1 - sick
            loc, log_scale, _ = raw[j][3]
            p *= math.exp(-0.5 * ((weight - loc) / math.exp(log_scale)) ** 2 - log_scale) / math.sqrt(2 * math.pi)
            total += math.exp(log_p) * p
        totals.append(math.log(total))
    return torch.tensor(totals, dtype=torch.float64)


def prior():
    return vq.CircuitPrior(
        pc.Circuit(
            (
                pc.Categorical("first", torch.tensor([[0.3, 0.7], [0.9, 0.1]], dtype=torch.float64))
                * pc.Categorical("second", torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], dtype=torch.float64))
            ).sum([0.25, 0.75])
        ),
        dtype=torch.float64,
    )


def test_a_table_conforms():
    check_vq_source(Table(), rows())


def test_variables_are_grouped_by_family_in_the_order_of_columns():
    groups = leaf_groups(Table())
    assert [(g.family.name, g.labels, g.columns) for g in groups] == [
        ("Normal", ("age", "weight"), (0, 3)),
        ("Categorical", ("kind",), (1,)),
        ("Bernoulli", ("ill",), (2,)),
    ]
    assert grid_of(Table()) == (1, 2)


@pytest.mark.parametrize("eager", [False, True], ids=["source", "eager"])
def test_a_table_is_distilled_and_composed_to_the_sum_over_its_codes(eager):
    table, given = Table(), prior()
    every = vq.selection.enumerate(given)
    log_prior = {(i, j): given.log_prob(torch.tensor([[i, j]])).item() for i in range(2) for j in range(3)}
    wanted = by_hand(table, rows(), log_prior)
    for circuit in (vq.distil(table, every, "bound", eager=eager), vq.compose(table, given, eager=eager)):
        assert circuit.variables == ("age", "kind", "ill", "weight")
        got = circuit.compile(dtype=torch.float64).log_prob(rows()).detach()
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)


def test_a_composed_table_answers_every_query_and_goes_through_files(tmp_path):
    circuit = vq.compose(Table(), prior())
    pc.save(circuit, tmp_path / "table.pc")
    again = vq.load_circuit(tmp_path / "table.pc", architectures={"Table": (TableConfig, Table)})
    x = rows()
    assert torch.equal(again.compile().log_prob(x), circuit.compile().log_prob(x))
    check_structure(vq.compose(Table(), prior(), eager=True), rows=2, draws=500)


class TwoGrids(nn.Module):
    """A 2 × 2 grid below one code of its own, as one sequence of five codes; a code of the grid decides a column."""

    family, data_shape, levels = pc.families.Normal(), (1, 4), 2
    cardinalities = (3, 2, 2, 2, 2)

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.top = nn.Parameter(torch.randn((3, 4), generator=generator, dtype=torch.float64))
        self.bottom = nn.Parameter(torch.randn((2, 4), generator=generator, dtype=torch.float64))

    def likelihood(self, codes):
        loc = self.top[codes[:, 0]] + self.bottom[codes[:, 1:], torch.arange(4)]
        return {"loc": loc, "scale": torch.full_like(loc, 0.5)}


def test_two_grids_are_one_sequence():
    source = TwoGrids()
    given = vq.IndependentPrior((1, 5), source.cardinalities).double()
    every = vq.selection.enumerate(given)
    assert len(every) == 48
    x = torch.randn((3, 4), dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    got = vq.distil(source, every, "bound").compile(dtype=torch.float64).log_prob(x).detach()
    terms = []
    for z in itertools.product(*map(range, source.cardinalities)):
        loc = source.likelihood(torch.tensor([z]))["loc"]
        terms.append((-0.5 * ((x - loc) / 0.5) ** 2 - math.log(0.5) - 0.5 * math.log(2 * math.pi)).sum(1))
    wanted = torch.stack(terms).logsumexp(0) - math.log(48)
    torch.testing.assert_close(got, wanted.detach(), rtol=0, atol=1e-12)


@pytest.mark.errors
def test_a_source_without_variables_says_so():
    class Nothing(nn.Module):
        cardinalities, patches = (2,), ((0,),)

        def likelihood(self, codes):
            return {}

    with pytest.raises(ParameterError, match="give it `variables`"):
        vq.compose(Nothing(), pc.Circuit(pc.Bernoulli(0, 0.5)))
