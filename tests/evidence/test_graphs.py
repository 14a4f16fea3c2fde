"""Evidence in graphs: autograd, function transforms, torch.compile and torch.export."""

import contextlib
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import pcircuits as pc
from pcircuits.errors import CircuitError, EvidenceError
from pcircuits.evidence import Evidence, Variables

ROOT = Path(__file__).parents[2]
NAN = float("nan")
VARIABLES = Variables(("x", "c"), (-1, 3))
ROWS = torch.tensor([[0.5, 2.0], [NAN, 1.0], [1.5, NAN]], dtype=torch.float64)


def read(given, dtype=torch.float64):
    return Evidence.read(given, VARIABLES, dtype, torch.device("cpu"))


class Reading(torch.nn.Module):
    def forward(self, x):
        known = read(x)
        return known.x, known.observed


def test_values_keep_their_graph():
    full = torch.tensor([[0.5, 2.0]], requires_grad=True)
    weights = torch.tensor([[3.0, 5.0]], dtype=torch.float64)
    (read(full).x * weights).sum().backward()
    assert full.grad.tolist() == [[3.0, 5.0]]
    some = ROWS.clone().requires_grad_()
    (read(some).x * weights).sum().backward()
    assert some.grad.tolist() == [[3.0, 5.0], [0.0, 5.0], [3.0, 0.0]]  # of what is missing: zero, not NaN
    alone = torch.tensor([0.5, NAN], requires_grad=True)
    (read({"c": 1, "x": alone}).x * weights).sum().backward()
    assert alone.grad.tolist() == [3.0, 0.0]
    listed = [torch.tensor(0.5, requires_grad=True), torch.tensor(2.0)]
    read([listed]).x.sum().backward()
    assert listed[0].grad == 1.0
    masked = ROWS.clone().requires_grad_()
    read((masked, torch.tensor([[True, True], [False, True], [True, False]]))).x.sum().backward()
    assert masked.grad.tolist() == [[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]


def test_conditioning_on_values_of_a_graph():
    circuit = pc.Circuit(pc.mixture([0.5, 0.5], pc.Normal(["a", "b"], [[0.0, 1.0], [2.0, 3.0]], 1.0).prod()))
    row = torch.tensor([[0.5, NAN]], requires_grad=True)
    assert pc.condition(circuit, row).root.weights.value.tolist() == pytest.approx(
        pc.condition(circuit, row.detach()).root.weights.value.tolist(), rel=1e-15
    )
    model = circuit.compile()
    assert torch.equal(model.given(row).mean(), model.given(row.detach()).mean())


def test_values_of_inference_mode_are_used_outside_of_it():
    with torch.inference_mode():
        x = torch.tensor([[0.5, 2.0]])
        inside = read(x)
        assert inside.x.tolist() == read({"x": 0.5, "c": 2}).x.tolist() == [[0.5, 2.0]]
    for form in (x, (x, x == x), {"x": x[:, 0], "c": 2}):
        known = read(form, torch.float32)
        weight = torch.tensor(2.0, requires_grad=True)
        (weight * known.x).sum().backward()
        assert weight.grad == 2.5
    shared = Evidence.read(x, VARIABLES, torch.float32, x.device, copy=False)
    assert not shared.x.is_inference()


COMPILED = """
import torch
from pcircuits.evidence import Evidence, Variables

variables, nan = Variables(("x", "c"), (-1, 3)), float("nan")
rows = torch.tensor([[0.5, 2.0], [nan, 1.0], [1.5, nan]], dtype=torch.float64)

class Reading(torch.nn.Module):
    def forward(self, x):
        known = Evidence.read(x, variables, torch.float64, torch.device("cpu"))
        return known.x, known.observed

compiled = torch.compile(Reading(), fullgraph=True, backend="eager")
exported = torch.export.export(Reading(), (torch.zeros(3, 2, dtype=torch.float64),)).module()
for made in (compiled, exported):
    for answer, right in zip(made(rows), Reading()(rows)):
        assert torch.equal(answer, right), (answer, right)
print("both agree")
"""


def test_compiled_and_exported_reading():
    """In a process of its own: torch.compile does not look through the run-time checks of signatures of the tests."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "both agree", done.stderr


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
def test_function_transforms():
    x, observed = torch.vmap(Reading())(ROWS)
    assert torch.equal(x.squeeze(1), read(ROWS).x)
    assert torch.equal(observed.squeeze(1), read(ROWS).observed)
    full = torch.tensor([[0.5, 2.0], [1.5, 1.0]], dtype=torch.float64)
    x, _ = torch.vmap(Reading())(full)
    assert torch.equal(x.squeeze(1), full)
    for transform in (torch.func.grad, torch.func.jacrev, torch.func.jacfwd):
        found = transform(lambda x: (read(x).x ** 2).sum())(full)
        assert torch.equal(found, 2 * full)
    rows = torch.vmap(torch.func.grad(lambda x: (read(x).x ** 2).sum()))(ROWS)
    assert torch.equal(rows, 2 * ROWS.nan_to_num(0.0))


def test_nothing_is_kept_from_inside_a_transform_or_a_mode():
    full, fresh = torch.tensor([[0.5, 2.0]]), Variables(("x", "c"), (-1, 3))
    cpu = torch.device("cpu")
    torch.func.grad(lambda x: Evidence.read(x, fresh, torch.float32, cpu).x.sum())(full)
    with FakeTensorMode(), contextlib.suppress(RuntimeError):  # a fake tensor has no values to check
        Evidence.read(torch.zeros(1, 2), fresh, torch.float32, cpu)
    assert Evidence.read(full, fresh, torch.float32, cpu).x.tolist() == [[0.5, 2.0]]
    with torch.inference_mode():
        Evidence.read(full.double(), fresh, torch.float64, cpu)
    assert not any(limit.is_inference() for limits in fresh._kept_limits.values() for limit in limits)
    copied = pickle.loads(pickle.dumps(fresh))
    assert copied == fresh
    assert not copied._kept_limits


@pytest.mark.errors
def test_values_are_checked_under_vmap_too():
    bad = torch.tensor([[0.5, 2.0], [0.5, 3.0]], dtype=torch.float64)
    with pytest.raises(EvidenceError, match=r"within torch\.vmap holds a value that its variable cannot have"):
        torch.vmap(Reading())(bad)
    with pytest.raises(EvidenceError, match="0 and 1 as integers"):
        torch.vmap(lambda x: read((x, torch.where(x > 0, 2, 1))).x)(bad)


def test_evidence_joins_in_transforms():
    before = read({"c": 1})
    joined = torch.vmap(lambda x: before.join(read({"x": x}), VARIABLES).x)(
        torch.tensor([0.5, 1.5], dtype=torch.float64)
    )
    assert joined.squeeze(1).tolist() == [[0.5, 1.0], [1.5, 1.0]]


@pytest.mark.errors
def test_contradictions_are_seen_under_vmap_too():
    before = read({"c": 1})
    with pytest.raises(EvidenceError, match="a row contradicts the evidence given before, within"):
        torch.vmap(lambda c: before.join(read({"c": c}), VARIABLES).x)(torch.tensor([1.0, 2.0], dtype=torch.float64))


@pytest.mark.errors
@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
def test_tracing_is_refused():
    with pytest.raises(CircuitError, match=r"torch\.jit\.trace records.*torch\.export\.export\(\.\.\.\)"):
        torch.jit.trace(Reading(), (ROWS,))
