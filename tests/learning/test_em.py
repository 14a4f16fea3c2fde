"""Expectation-maximisation: laws on random circuits, and closed forms."""

import itertools
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import pcircuits as pc
from pcircuits.learning import (
    Anemone,
    CheckpointError,
    EMSettings,
    FitSettings,
    Rows,
    Stepwise,
    TrainingError,
    em,
    fit,
)
from pcircuits.learning.m_step import require_updates
from pcircuits.program.counts import Tally, expected_counts, prior_counts
from pcircuits.testing import Oracle
from pcircuits.testing.strategies import circuits, rows

LAW = settings(max_examples=25, deadline=None)
EXACT = EMSettings(epochs=5, pseudocount=0.0, minimum_scale=1e-2)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def losses(history):
    return [record.train_loss for record in history.epochs]


def trainable(circuit):
    """A compiled circuit that EM has updates for: of simplex weights, and without parameters from sources."""
    try:
        return pc.normalise(circuit)
    except pc.PropertyError:
        assume(False)


def updatable(model):
    """Whether no family without a closed form shares some of its parameters between units, and not others."""
    try:
        require_updates(model.program, Tally(model.program))
    except TrainingError as error:
        return "share some of their parameters" not in str(error)
    return True


@LAW
@given(st.data())
def test_no_step_lowers_the_likelihood(data):
    circuit = trainable(data.draw(circuits(max_variables=4)))
    x = data.draw(rows(circuit))
    rewrites = data.draw(st.sampled_from([None, (), ("fold",), ("fold", "fuse")]))
    model = circuit.compile(dtype=torch.float64, rewrites=rewrites)
    assume(not len(model.program.sources))
    assume(updatable(model))
    assume(bool((model.log_prob(x) > -torch.inf).all()) and model.circuit.num_roots == 1)
    found = losses(em(model, x, settings=EXACT))
    assert all(b <= a + 1e-9 * max(1.0, abs(a)) for a, b in itertools.pairwise(found)), found


@LAW
@given(st.data())
def test_counts_of_weights_are_gradients_of_their_logs(data):
    """∂ log p / ∂ raw_i = n_i − w_i Σ_j n_j for a softmax, which autograd finds without any counts."""
    circuit = trainable(data.draw(circuits(max_variables=4)))
    x = data.draw(rows(circuit))
    model = circuit.compile(dtype=torch.float64, rewrites=data.draw(st.sampled_from([None, (), ("fold",)])))
    assume(not len(model.program.sources) and circuit.num_roots == 1)
    logs = model.log_prob(x)
    assume(bool((logs > -torch.inf).all()))
    tally = Tally(model.program)
    read = model._given().read(x)
    counts, found = expected_counts(tally, read.x, read.observed)
    torch.testing.assert_close(found, logs.detach(), rtol=1e-9, atol=1e-9)
    logs.sum().backward()
    of_families = {store for groups in tally.groups for homes in groups.stores.values() for store in homes}
    for store, name in tally.names.items():
        if (
            store not in of_families
            and store.constraint.event_ndim
            and store.raw.requires_grad
            and store.raw.grad is not None
        ):
            counted = counts.tensors[name]
            expected = counted - store.values().detach() * counted.sum(-1, keepdim=True)
            torch.testing.assert_close(store.raw.grad, expected, rtol=1e-7, atol=1e-9)


@LAW
@given(st.data())
def test_what_a_model_expects_of_itself_changes_nothing(data):
    """An M-step on the counts of the model's own samples leaves every answer as it was."""
    from pcircuits.learning.m_step import maximise

    circuit = trainable(data.draw(circuits(max_variables=4)))
    x = data.draw(rows(circuit))
    model = circuit.compile(dtype=torch.float64)
    assume(not len(model.program.sources) and circuit.num_roots == 1 and updatable(model))
    before = model.log_prob(x).detach()
    tally = Tally(model.program)
    maximise(tally, prior_counts(tally).times(1000.0), 0.0, 1e-12)
    after = model.log_prob(x).detach()
    both = before.isfinite()
    assert torch.equal(both, after.isfinite())
    torch.testing.assert_close(after[both], before[both], rtol=1e-6, atol=1e-6)


def mixture_of_normals(x, components):
    start = x[torch.randperm(len(x), generator=seeded())[:components]].double()
    product = None
    for v in range(x.shape[1]):
        leaf = pc.Normal(v, start[:, v], torch.full((components,), 1.0).double())
        product = leaf if product is None else product * leaf
    return pc.Circuit(pc.mixture([[1 / components] * components], product)), start


@pytest.mark.parametrize("missing", [False, True])
def test_a_mixture_of_normals_by_hand(missing):
    """Responsibilities, weighted means and variances over what each row has."""
    g = seeded(1)
    x = torch.cat([torch.randn(30, 2, generator=g) + 4, 0.5 * torch.randn(20, 2, generator=g)]).double() + 1e4
    circuit, start = mixture_of_normals(x, 3)
    if missing:
        x[::3, 0] = math.nan
        x[1::5, 1] = math.nan
    model = circuit.compile(dtype=torch.float64)
    em(model, x, settings=EMSettings(epochs=1, pseudocount=0.0))
    seen = ~x.isnan()
    each = torch.distributions.Normal(start, 1.0).log_prob(x.nan_to_num(0.0)[:, None])
    resp = torch.softmax(torch.where(seen[:, None], each, 0.0).sum(-1), -1)  # (B, K)
    weight = resp.mean(0)
    used = resp[:, :, None] * seen[:, None]
    mean = (used * x.nan_to_num(0.0)[:, None]).sum(0) / used.sum(0)
    variance = (used * (x.nan_to_num(0.0)[:, None] - mean) ** 2).sum(0) / used.sum(0)
    want = torch.distributions.Normal(mean, variance.sqrt()).log_prob(x.nan_to_num(0.0)[:, None])
    want = (torch.where(seen[:, None], want, 0.0).sum(-1) + weight.log()).logsumexp(-1)
    torch.testing.assert_close(model.log_prob(x), want, rtol=1e-8, atol=1e-8)


def test_naive_bayes_with_a_root_for_each_class_is_counting():
    g = seeded(2)
    labels = torch.randint(0, 3, (60,), generator=g)
    x = torch.randint(0, 4, (60, 2), generator=g)
    roots = []
    for _ in range(3):
        leaves = [pc.Categorical(v, torch.softmax(torch.randn(4, generator=g).double(), 0)) for v in range(2)]
        roots.append(leaves[0] * leaves[1])
    model = pc.Circuit(roots).compile(dtype=torch.float64)
    em(model, Rows(x.double(), roots=labels), settings=EMSettings(epochs=1, pseudocount=0.5))
    for c in range(3):
        own = x[labels == c]
        table = [(torch.bincount(own[:, v], minlength=4) + 0.5).double() for v in range(2)]
        want = sum((t / t.sum()).log()[x[:, v]] for v, t in enumerate(table))
        torch.testing.assert_close(model.root(c).log_prob(x.double()), want, rtol=1e-9, atol=1e-9)


def test_weights_of_rows_are_repetitions():
    x = torch.tensor([[0.0], [1.0], [2.0]]).double()
    circuit, _ = mixture_of_normals(x, 2)
    one, other = circuit.compile(dtype=torch.float64), circuit.compile(dtype=torch.float64)
    em(one, Rows(x, weights=torch.tensor([1.0, 3.0, 0.0])), settings=EXACT)
    em(other, x[[0, 1, 1, 1]], settings=EXACT)
    torch.testing.assert_close(one.log_prob(x), other.log_prob(x), rtol=1e-9, atol=1e-9)


def test_units_that_share_all_parameters_pool_their_data():
    probs = pc.Parameter([0.3, 0.3, 0.4], pc.simplex)
    circuit = pc.Circuit(pc.Categorical("a", probs) * pc.Categorical("b", probs))
    model = circuit.compile(dtype=torch.float64)
    em(model, torch.tensor([[0.0, 1.0], [0.0, 2.0]]), settings=EMSettings(epochs=1, pseudocount=0.0))
    a, b = model.to_circuit().arrays[:2]
    shown = [unit.parameters["probs"].value.flatten().tolist() for unit in (a, b)]
    assert shown[0] == pytest.approx([0.5, 0.25, 0.25])
    assert shown[1] == shown[0]


def test_a_scale_that_components_share_is_their_pooled_spread():
    """K locations and one scale: σ² = Σ r_bk (x_b − μ_k)² / B, which the search must find."""
    g = seeded(3)
    x = torch.cat([torch.randn(40, 1, generator=g) - 3, torch.randn(40, 1, generator=g) + 3]).double()
    scale = pc.Parameter([[2.0]], pc.parameters.positive)
    units = [pc.Normal("x", [[loc]], scale) for loc in (-1.0, 1.0)]
    model = pc.Circuit(pc.mixture([0.5, 0.5], units)).compile(dtype=torch.float64)
    resp = torch.softmax(torch.distributions.Normal(torch.tensor([-1.0, 1.0]).double(), 2.0).log_prob(x), -1)
    mean = (resp * x).sum(0) / resp.sum(0)
    scale = ((resp * (x - mean) ** 2).sum() / len(x)).sqrt()
    em(model, x, settings=EMSettings(epochs=1, pseudocount=0.0))
    want = (torch.distributions.Normal(mean, scale).log_prob(x) + resp.mean(0).log()).logsumexp(-1)
    torch.testing.assert_close(model.log_prob(x), want, rtol=1e-5, atol=1e-6)


def test_held_parameters_stay():
    loc = pc.Parameter([[0.0, 1.0]], pc.parameters.real, trainable=False)
    units = pc.Normal("x", loc, torch.tensor([[1.0, 1.0]]).double())
    model = pc.Circuit(pc.mixture([[0.5, 0.5]], units)).compile(dtype=torch.float64)
    x = torch.tensor([[0.0], [2.0], [2.5]]).double()
    found = losses(em(model, x, settings=EMSettings(epochs=4, pseudocount=0.0)))
    now = model.to_circuit().arrays[0].parameters
    assert now["loc"].value.flatten().tolist() == [0.0, 1.0]
    assert now["scale"].value.flatten().tolist() != [1.0, 1.0]
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("averaging", [Stepwise(), Anemone()])
def test_batches_come_close_to_all_rows_at_once(averaging):
    g = seeded(4)
    x = torch.cat([torch.randn(200, 2, generator=g) - 2, torch.randn(200, 2, generator=g) + 2]).double()
    circuit, _ = mixture_of_normals(x, 2)
    whole, parts = circuit.compile(dtype=torch.float64), circuit.compile(dtype=torch.float64)
    best = losses(em(whole, x, settings=EMSettings(epochs=60, pseudocount=0.0)))[-1]
    found = losses(em(parts, x, settings=EMSettings(epochs=30, batch_size=40, averaging=averaging, pseudocount=0.0)))
    assert abs(found[-1] - best) < 0.02
    assert -parts.log_prob(x).mean().item() < best + 0.01


def test_impossible_rows_are_named_and_the_rest_is_counted():
    model = pc.Circuit(pc.Categorical("a", [0.5, 0.5, 0.0])).compile(dtype=torch.float64)
    x = torch.tensor([[0.0], [2.0], [1.0], [1.0]])
    with pytest.warns(UserWarning, match=r"row 1 of the training data \(1 in all\) has probability zero"):
        em(model, x, settings=EMSettings(epochs=2, pseudocount=0.0))
    torch.testing.assert_close(model.log_prob(x[[0, 2]]).exp(), torch.tensor([1 / 3, 2 / 3]).double())


def test_what_has_no_update_is_refused_by_name():
    plain = pc.Circuit(pc.Bernoulli("a", [0.5, 0.2]).sum([[0.5, 0.5]])).compile()
    with pytest.raises(TrainingError, match="Normalise the circuit before"):
        em(plain, torch.zeros(2, 1))
    with pytest.raises(TrainingError, match="2 roots: say which one"):
        em(pc.Circuit([pc.Bernoulli("a", 0.5), pc.Bernoulli("a", 0.1)]).compile(), torch.zeros(2, 1))
    with pytest.raises(TrainingError, match="weights of the training data must be finite"):
        em(pc.Circuit(pc.Bernoulli("a", 0.5)).compile(), Rows(torch.zeros(2, 1), weights=torch.tensor([1.0, -1.0])))
    with pytest.raises(TrainingError, match=r"integers within 0\.\.0"):
        em(pc.Circuit(pc.Bernoulli("a", 0.5)).compile(), Rows(torch.zeros(2, 1), roots=torch.tensor([0, 1])))
    with pytest.raises(TrainingError, match="pseudocount is -1"):
        EMSettings(pseudocount=-1.0)


def test_counts_agree_with_the_oracle():
    """Posterior shares of components, by enumeration in plain Python."""
    g = seeded(5)
    leaves = [pc.Categorical(v, torch.softmax(torch.randn(3, 3, generator=g).double(), -1)) for v in "ab"]
    circuit = pc.Circuit(pc.mixture([[0.2, 0.3, 0.5]], leaves[0] * leaves[1]))
    x = torch.tensor([[0.0, 1.0], [2.0, math.nan]]).double()
    model = circuit.compile(dtype=torch.float64)
    tally = Tally(model.program)
    counts, _ = expected_counts(tally, x.nan_to_num(0.0), ~x.isnan())
    total = torch.zeros(3).double()
    for row in x:
        each = []
        for k in range(3):
            part = 1.0
            for leaf, value in zip(leaves, row, strict=True):
                if not math.isnan(value):
                    part *= float(leaf.parameters["probs"].value.reshape(3, 3)[k, int(value)])
            each.append([0.2, 0.3, 0.5][k] * part)
        total += torch.tensor(each).double() / sum(each)
    (found,) = [c for name, c in counts.tensors.items() if "weights" in name]
    torch.testing.assert_close(found.flatten(), total)
    assert float(Oracle(circuit).log_prob({"a": 0.0, "b": 1.0})) == pytest.approx(model.log_prob(x)[0].item())


def grouped(seed=6):
    g = seeded(seed)
    return torch.cat([torch.randn(30, 2, generator=g) - 2, torch.randn(30, 2, generator=g) + 2]).double()


@pytest.mark.parametrize("averaging", [Stepwise(), Anemone()])
def test_a_run_that_stopped_goes_on_as_if_it_had_not(tmp_path, averaging):
    """Every epoch in a process of its own, so to speak: only the folder is handed on."""

    class Stop(Exception):
        pass

    def stop(record):
        raise Stop

    x = grouped()
    circuit, _ = mixture_of_normals(x, 2)
    options = EMSettings(epochs=4, batch_size=16, averaging=averaging)
    whole = circuit.compile(dtype=torch.float64)
    want = em(whole, x, x[:10], settings=options)
    for _ in range(4):
        model = circuit.compile(dtype=torch.float64)
        with pytest.raises(Stop):
            em(model, x, x[:10], settings=options, folder=tmp_path, on_epoch=stop)
    got = em(circuit.compile(dtype=torch.float64), x, x[:10], settings=options, folder=tmp_path)
    assert losses(got) == losses(want)
    model = circuit.compile(dtype=torch.float64)
    em(model, x, x[:10], settings=options, folder=tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), whole.state_dict().values(), strict=True))


def test_another_run_of_em_is_refused(tmp_path):
    x = grouped()
    circuit, _ = mixture_of_normals(x, 2)
    em(circuit.compile(dtype=torch.float64), x, settings=EMSettings(epochs=1), folder=tmp_path)
    with pytest.raises(CheckpointError, match=r"other settings \(pseudocount"):
        em(circuit.compile(dtype=torch.float64), x, settings=EMSettings(epochs=1, pseudocount=2.0), folder=tmp_path)
    with pytest.raises(CheckpointError, match="other training data"):
        em(circuit.compile(dtype=torch.float64), x + 1, settings=EMSettings(epochs=1), folder=tmp_path)


PARALLEL = """
import sys
import torch
from pcircuits.learning import EMSettings, FitSettings, em, fit
from tests.learning.test_em import grouped, mixture_of_normals

folder, rank = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
circuit, _ = mixture_of_normals(grouped(), 2)
counted, descended = circuit.compile(dtype=torch.float64), circuit.compile(dtype=torch.float64)
em(counted, grouped(), settings=EMSettings(epochs=3, batch_size=25), folder=f"{folder}/em")
fit(descended, grouped(), settings=FitSettings(epochs=3, batch_size=25), folder=f"{folder}/fit")
torch.save([counted.state_dict(), descended.state_dict()], f"{folder}/{rank}.pt")
torch.distributed.destroy_process_group()
"""


def test_two_processes_learn_as_one_does(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", PARALLEL, str(tmp_path)]
    root = Path(__file__).parents[2]
    both = [subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE, text=True, cwd=root) for rank in range(2)]
    for process in both:
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said[-2000:]
    circuit, _ = mixture_of_normals(grouped(), 2)
    counted, descended = circuit.compile(dtype=torch.float64), circuit.compile(dtype=torch.float64)
    em(counted, grouped(), settings=EMSettings(epochs=3, batch_size=25))
    fit(descended, grouped(), settings=FitSettings(epochs=3, batch_size=25))
    for rank in range(2):
        for got, want in zip(torch.load(tmp_path / f"{rank}.pt"), (counted, descended), strict=True):
            for name, value in want.state_dict().items():
                torch.testing.assert_close(got[name], value, rtol=1e-9, atol=1e-9)


def test_public_counts_are_posteriors():
    """Of a mixture of two coins, by hand: P(first | 0) = 0.8, P(first | 1) = 0.2."""
    coins = pc.Bernoulli("a", [0.2, 0.8])
    model = pc.Circuit(pc.mixture([0.5, 0.5], coins * pc.Normal("b", [0.0, 0.0], [1.0, 1.0]))).compile(torch.float64)
    found = model.expected_counts({"a": [0, 1, 1], "b": [1.0, 2.0, math.nan]}, weights=torch.tensor([1.0, 1.0, 3.0]))
    first, second = 0.8 + 0.2 + 0.6, 0.2 + 0.8 + 2.4
    assert found["sum0.weights"].statistics[0].tolist() == pytest.approx([first, second])
    assert found["input0.probs"].statistics[0].flatten().tolist() == pytest.approx([0.8, 0.8, 0.2, 3.2])
    assert found["input1.loc"].count.flatten().tolist() == pytest.approx([1.0, 1.0])
    assert found["input1.loc"].statistics[0].flatten().tolist() == pytest.approx([0.8 + 0.4, 0.2 + 1.6])
    given = model.given({"a": 1}).expected_counts({"b": [0.0]})
    assert given["sum0.weights"].statistics[0].tolist() == pytest.approx([0.2, 0.8])
