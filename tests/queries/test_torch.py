"""What torch does with modules: transforms, compilation, export, autocast, dtypes, threads, and data parallel training."""

import copy
import subprocess
import sys
import threading

import pytest
import torch
from torch.func import functional_call

import pcircuits as pc
from pcircuits import structures

LOC = torch.tensor([[0.0, 1.0], [2.0, 3.0]], dtype=torch.float64)


def normals():
    return pc.Circuit(pc.mixture([0.3, 0.7], pc.Normal(["a", "b"], LOC, 1.0).prod()))


def pixels():
    g = torch.Generator().manual_seed(0)
    return structures.layered(structures.quad_graph(4, 4), structures.categorical_leaves(3), 4, generator=g)


def data(name):
    g = torch.Generator().manual_seed(1)
    return (
        torch.randn(4, 2, generator=g).double()
        if name == "normals"
        else torch.randint(3, (4, 16), generator=g).double()
    )


CIRCUITS = {"normals": normals, "pixels": pixels}


@pytest.fixture(params=CIRCUITS)
def case(request):
    """A model in float64, its parameters as a dict, and rows of data."""
    model = CIRCUITS[request.param]().compile(dtype=torch.float64)
    return model, {k: v.detach() for k, v in model.named_parameters()}, data(request.param)


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {k: v.grad.clone() for k, v in model.named_parameters()}


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-10, rtol=1e-9)


def test_functional_calls_and_their_gradients(case):
    model, parameters, x = case
    want = gradients(model, model.log_prob(x).sum())
    torch.testing.assert_close(functional_call(model, parameters, (x,)), model.log_prob(x))
    same(torch.func.grad(lambda p: functional_call(model, p, (x,)).sum())(parameters), want)
    moved = {k: v + 0.5 for k, v in parameters.items()}
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for name, value in twin.named_parameters():
            value.copy_(moved[name])
    torch.testing.assert_close(functional_call(model, moved, (x,)), twin.log_prob(x))


def test_rows_and_models_are_batched(case):
    model, parameters, x = case
    torch.testing.assert_close(torch.func.vmap(lambda row: model.log_prob(row[None])[0])(x), model.log_prob(x))
    each = torch.func.vmap(torch.func.grad(lambda p, row: functional_call(model, p, (row[None],)).sum()), (None, 0))
    want = [gradients(model, model.log_prob(row[None]).sum()) for row in x]
    same(each(parameters, x), {k: torch.stack([w[k] for w in want]) for k in parameters})
    two = {k: torch.stack([v, v + 0.5]) for k, v in parameters.items()}
    made = torch.func.vmap(lambda p: functional_call(model, p, (x,)))(two)
    torch.testing.assert_close(made[0], model.log_prob(x))
    torch.testing.assert_close(made[1], functional_call(model, {k: v[1] for k, v in two.items()}, (x,)))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_forward_mode_and_second_derivatives(case):
    model, parameters, x = case

    def total(p):
        return functional_call(model, p, (x,)).sum()

    ones = {k: torch.ones_like(v) for k, v in parameters.items()}
    want = sum(g.sum() for g in gradients(model, model.log_prob(x).sum()).values())
    torch.testing.assert_close(torch.func.jvp(total, (parameters,), (ones,))[1], want, atol=1e-9, rtol=1e-9)
    name = list(parameters)[-1]
    by_func = torch.func.hessian(lambda v: total({**parameters, name: v}))(parameters[name])
    weight = dict(model.named_parameters())[name]
    (first,) = torch.autograd.grad(model.log_prob(x).sum(), weight, create_graph=True)
    row, _ = torch.autograd.grad(first.flatten()[0], [weight, *list(model.parameters())[:1]], allow_unused=True)
    torch.testing.assert_close(row.flatten(), by_func.reshape(weight.numel(), -1)[0], atol=1e-9, rtol=1e-7)


COMPILED = """
import torch
from tests.queries.test_torch import CIRCUITS, data

for name, make in CIRCUITS.items():
    model, x = make().compile(dtype=torch.float64), data(name)
    model.log_prob(x).sum().backward()
    want = [p.grad.clone() for p in model.parameters()]
    assert torch._dynamo.explain(model)(x).graph_break_count == 0, name
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model.log_prob(x))
    model.zero_grad()
    compiled(x).sum().backward()
    for parameter, gradient in zip(model.parameters(), want, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-10, rtol=1e-9)
print("as without")
"""


def test_compiled_without_breaks():
    """In a process of its own: the run-time checks of the tests' signatures cannot be compiled."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", COMPILED], capture_output=True, text=True, check=False)
    assert done.stdout == "as without\n", done.stderr[-2000:]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_exported_models_take_any_pattern_of_missing_values(case):
    model, _, x = case
    exported = torch.export.export(model, (x,)).module()
    partly = x.clone()
    partly[0, 0] = torch.nan
    torch.testing.assert_close(exported(partly), model.log_prob(partly))


@pytest.mark.filterwarnings("ignore")
def test_traces_are_refused(case):
    model, _, x = case
    with pytest.raises((pc.CircuitError, RuntimeError), match="trace"):
        torch.jit.trace(model, (x,))


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(narrow):
    for name, make in CIRCUITS.items():
        model, x = make().compile(), data(name).float()
        half = x.clone()
        half[:, ::2] = torch.nan
        asks = [
            lambda m, x=x: m.log_prob(x),
            lambda m, x=half: m.given(x).mean(),
            lambda m, x=half: m.given(x).map(exact=False).upper_bound,
        ]
        for ask in asks:
            with torch.autocast("cpu", dtype=narrow):
                inside = ask(make().compile())
            assert torch.equal(inside, ask(model))
        with torch.autocast("cpu", dtype=narrow):
            value = model.log_prob(x)
        got, want = gradients(model, value.sum()), gradients(model, model.log_prob(x).sum())
        for name in want:
            assert torch.equal(got[name], want[name])


@pytest.mark.errors
def test_half_precision_is_refused_at_once():
    model = normals().compile()
    for move in (lambda: model.half(), lambda: model.to(torch.bfloat16)):
        with pytest.raises(pc.CircuitError, match="autocast"):
            move()
    assert model.log_prob({"a": 0.0, "b": 0.0}).dtype == torch.float32


def test_gradients_add_up_over_parts_of_a_batch(case):
    model, _, x = case
    want = gradients(model, model.log_prob(x).sum())
    model.zero_grad()
    for part in x.split(1):
        model.log_prob(part).sum().backward()
    same({k: v.grad for k, v in model.named_parameters()}, want)


def test_threads_ask_one_model(case):
    model, _, x = case
    want, got = model.log_prob(x).detach(), []

    def ask():
        with torch.no_grad():
            got.extend(model.log_prob(x) for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 80
    assert all(torch.equal(value, want) for value in got)


PARALLEL = """
import sys
import torch
from tests.queries.test_torch import data, normals

folder, rank = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
model = normals().compile(dtype=torch.float64)
parallel = torch.nn.parallel.DistributedDataParallel(model)
optimiser = torch.optim.SGD(parallel.parameters(), lr=0.1)
for _ in range(3):
    optimiser.zero_grad()
    (-parallel(data("normals")[rank::2]).mean()).backward()
    optimiser.step()
torch.save(model.state_dict(), f"{folder}/{rank}.pt")
torch.distributed.destroy_process_group()
"""


def test_two_processes_train_as_one_does(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", PARALLEL, str(tmp_path)]
    both = [subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE, text=True) for rank in range(2)]
    for process in both:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said[-2000:]
    model = normals().compile(dtype=torch.float64)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        (-model(data("normals")).mean()).backward()
        optimiser.step()
    for rank in range(2):
        same(torch.load(tmp_path / f"{rank}.pt"), dict(model.state_dict()))
