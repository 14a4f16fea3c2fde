"""Pickles and copies of circuits, of units and of parameters: whatever their depth, with all that is shared shared."""

import copy
import io
import pickle
import subprocess
import sys
import threading

import pytest
import torch

import pcircuits as pc
from pcircuits.parameters import CONSTRAINTS
from pcircuits.testing import Oracle

DEPTH = 5_000


class PythonPickler(pickle._Pickler):
    """The pickler in Python, which joblib and dill build on; it takes more frames for each object."""


def in_python(value, protocol=pickle.DEFAULT_PROTOCOL):
    file = io.BytesIO()
    PythonPickler(file, protocol).dump(value)
    return pickle.loads(file.getvalue())


def in_c(value):
    return pickle.loads(pickle.dumps(value))


def by_torch(value):
    file = io.BytesIO()
    torch.save(value, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)


ways = pytest.mark.parametrize("through", [in_c, in_python, by_torch])


def discrete():
    """Discrete leaves of each kind, every kind of array, and two ties."""
    probs = pc.Parameter(torch.tensor([[0.25, 0.5]]), pc.unit_interval)
    weights = pc.Parameter(torch.tensor([0.25, 0.75], dtype=torch.float64), pc.simplex)
    a, b = pc.Bernoulli("a", probs), pc.Bernoulli("b", probs)
    gates = [pc.Indicator("c", 0), pc.Indicator("c", 1)]
    both = pc.concat([a, b], axis="regions").prod() * pc.Constant(1.0)
    more = a.outer(b)[0, [3, 0]]
    left = gates[0] * both.sum(weights) * pc.Categorical("d", [0.5, 0.25, 0.25])
    return pc.Circuit(0.5 * left + 0.5 * (gates[1] * more.sum(weights) * pc.Categorical("d", [0.25, 0.25, 0.5])))


def chain(depth):
    unit = pc.Bernoulli("a", 0.25)
    leaf = pc.Bernoulli("a", 0.75)
    for _ in range(depth):
        unit = 0.5 * unit + 0.5 * leaf
    return unit.units


def rows(circuit):
    every = torch.cartesian_prod(*(torch.arange(float(max(n, 1))) for n in circuit.states))
    return every.reshape(-1, len(circuit.variables))


@ways
def test_circuits_with_discrete_leaves(through):
    circuit = discrete()
    circuit.check()
    twin = through(circuit)
    assert twin is not circuit
    assert (twin.variables, twin.states) == (circuit.variables, circuit.states)
    assert str(twin.summary()) == str(circuit.summary())
    assert str(twin.check()) == str(circuit.check())
    for row in rows(circuit).tolist():
        evidence = dict(zip(circuit.variables, row, strict=True))
        assert Oracle(twin).log_value(evidence) == Oracle(circuit).log_value(evidence)
    for one, other in zip(twin.parameters(), circuit.parameters(), strict=True):
        assert one.constraint is other.constraint
        assert torch.equal(one.value, other.value)
        assert one.value.dtype == other.value.dtype
        assert (one.trainable, one.name) == (other.trainable, other.name)


@ways
def test_ties_stay_ties(through):
    circuit = through(discrete())
    a, b, *_ = (array for array in circuit.inputs if array.family == pc.families.Bernoulli())
    assert a.parameters["probs"] is b.parameters["probs"]
    one, other, _ = circuit.sums
    assert one.weights is other.weights


@ways
def test_models_answer_as_before(through):
    model = discrete().compile(dtype=torch.float64)
    twin = through(model)
    x = rows(model.circuit)
    assert torch.equal(twin.log_prob(x), model.log_prob(x))
    assert torch.equal(twin.mean(), model.mean())
    assert torch.equal(twin.posterior(twin.circuit.sums[-1]), model.posterior(model.circuit.sums[-1]))
    assert twin.to_circuit().variables == model.variables


def test_another_process(tmp_path):
    model = discrete().compile(dtype=torch.float64)
    (tmp_path / "both.pkl").write_bytes(pickle.dumps((model, model.circuit)))
    code = f"""
import pickle, torch
model, circuit = pickle.loads(open({str(tmp_path / "both.pkl")!r}, "rb").read())
assert model.circuit is circuit
print(circuit.check().deterministic.holds, model.mean().tolist(), model.posterior(circuit.root).tolist())
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    verdict = model.circuit.check().deterministic.holds
    assert ran.stdout.strip() == f"{verdict} {model.mean().tolist()} {model.posterior(model.circuit.root).tolist()}"


@ways
def test_units_that_are_pickled_beside_their_circuit_stay_its_units(through):
    circuit = discrete()
    for value in ((circuit, circuit.sums[0], circuit.unit(circuit.root)), (circuit.sums[0], circuit, None)):
        parts = through(value)
        twin = next(part for part in parts if isinstance(part, pc.Circuit))
        sums = next(part for part in parts if isinstance(part, pc.Units))
        assert sums is twin.sums[0]
        assert twin.scope(sums) == circuit.scope(circuit.sums[0])


@ways
def test_great_depth(through):
    unit = chain(DEPTH)
    circuit = pc.Circuit(unit)
    twin = through(circuit)
    assert len(twin.arrays) == len(circuit.arrays) == DEPTH + 2
    assert Oracle(twin).mean() == Oracle(circuit).mean()
    alone = through(unit)
    assert str(pc.Circuit(alone).summary()) == str(circuit.summary())
    several = through([unit, unit.children[0]])
    assert several[0].children[0] is several[1]


def test_models_of_great_depth():
    model = pc.Circuit(chain(1000)).compile(dtype=torch.float64)
    assert in_c(model).log_prob({"a": 1}).item() == model.log_prob({"a": 1}).item()


def test_size_is_linear_in_depth():
    sizes = [len(pickle.dumps(pc.Circuit(chain(depth)))) for depth in (1000, 2000)]
    assert sizes[1] < 2.1 * sizes[0]
    assert sizes[0] < 1000 * 600


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol(protocol):
    circuit = discrete()
    assert str(pickle.loads(pickle.dumps(circuit, protocol)).summary()) == str(circuit.summary())
    assert in_python(circuit.root, protocol).shape == (1, 1)


class Unpicklable(torch.nn.Module):
    def parameters_for(self, columns):
        return {"probs": torch.full((1, len(columns)), 0.5)}

    def __reduce__(self):
        raise TypeError("this module cannot be pickled")


def test_a_pickle_that_failed_does_not_spoil_the_next():
    made = pc.inputs(pc.families.Bernoulli(), "b", pc.Sourced(Unpicklable(), 1, 1))
    with pytest.raises(TypeError, match="this module cannot be pickled"):
        pickle.dumps(pc.Circuit(chain(10) * made))
    unit = chain(DEPTH)
    assert in_c(unit).shape == (1, 1)


def test_threads_do_not_disturb_each_other():
    units = [chain(2000) for _ in range(4)]
    sizes = [len(pickle.dumps(unit)) for unit in units]
    found = [0] * 4

    def work(i):
        found[i] = len(pickle.dumps(units[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == sizes


def test_copies_are_the_same_units():
    unit = chain(DEPTH)
    circuit = pc.Circuit(unit)
    assert copy.deepcopy(unit) is unit
    assert copy.deepcopy([circuit, unit]) == [circuit, unit]
    shallow = copy.copy(unit)
    assert shallow is not unit
    assert (shallow.children, shallow.weights) == (unit.children, unit.weights)
    again = copy.copy(circuit)
    assert again is not circuit
    assert again.arrays is circuit.arrays


@pytest.mark.parametrize("constraint", CONSTRAINTS.values(), ids=CONSTRAINTS)
def test_constraints_are_the_same_objects(constraint):
    assert in_c(constraint) is constraint
    assert copy.deepcopy(constraint) is constraint
    assert copy.copy(constraint) is constraint


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_parameters_keep_their_numbers_and_store_repeated_ones_once(dtype):
    value = torch.linspace(0.0, 1.0, 3, dtype=torch.float64).to(dtype)[:, None].expand(3, 10_000)
    parameter = pc.Parameter(value, pc.real, trainable=False, name="repeated")
    raw = pickle.dumps(parameter)
    twin = pickle.loads(raw)
    assert torch.equal(twin.value, parameter.value)
    assert twin.value.dtype == dtype
    assert (twin.constraint, twin.trainable, twin.name) == (pc.real, False, "repeated")
    assert len(raw) < 2000


def test_buffers_that_cannot_be_written():
    parameter = pc.Parameter(torch.arange(4.0), pc.real)
    buffers = []
    raw = pickle.dumps(parameter, protocol=5, buffer_callback=buffers.append)
    twin = pickle.loads(raw, buffers=[bytes(buffer) for buffer in buffers])
    assert torch.equal(twin.value, parameter.value)
