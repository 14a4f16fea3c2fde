"""The compiler of region graphs: what its layers compute, how few arrays they are, and what it refuses."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as draw

import pcircuits as pc
from pcircuits import CircuitError, ParameterError, ScopeError
from pcircuits import structures as st
from pcircuits.testing import Enumeration


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pair():
    return st.RegionGraph({"ab": ["a", "b"], "a": "a", "b": "b"}, {"ab": [("a", "b")]})


def tables(circuit):
    """The probabilities of the leaves, (2, K, S), by variable, and the other weights in the order of the circuit."""
    (leaves,) = circuit.inputs
    probs = leaves.parameters["probs"].value.numpy()
    return [probs[leaves.variables.index((label,))] for label in circuit.variables], circuit.sums


def value_of_every_assignment(circuit):
    values = circuit.compile(dtype=torch.float64).log_prob(
        torch.tensor(list(Enumeration(circuit).log_values), dtype=torch.float64)
    )
    return values.exp().detach().numpy()


def test_cp_is_a_product_of_dense_sums():
    circuit = st.layered(pair(), st.categorical_leaves(3), 2, st.CP(), roots=2, generator=seeded())
    (a, b), (dense, top) = tables(circuit)
    (left, right), (weights,) = dense.weights.value.numpy(), top.weights.value.numpy()
    first, second = left @ a, right @ b
    if dense.children[0].variables[0] == ("b",):
        first, second = right @ a, left @ b
    want = np.einsum("ck,ks,kt->stc", weights, first, second).reshape(9, 2)
    np.testing.assert_allclose(value_of_every_assignment(circuit), want, rtol=1e-12)


def test_tucker_is_a_dense_sum_of_all_products():
    circuit = st.layered(pair(), st.categorical_leaves(3), 2, st.Tucker(), generator=seeded())
    (a, b), (dense, top) = tables(circuit)
    core, weights = dense.weights.value.numpy().reshape(2, 2, 2), top.weights.value.numpy()[0, 0]
    want = np.einsum("k,kij,is,jt->st", weights, core, a, b).flatten()
    np.testing.assert_allclose(value_of_every_assignment(circuit), want, rtol=1e-12)


def test_partitions_are_mixed_by_unit():
    """{a, b} twice over: two partitions, whose leaves are regions of their own."""
    names = [(n, label) for n in (0, 1) for label in "ab"]
    graph = st.RegionGraph({"ab": ["a", "b"], **{name: name[1] for name in names}}, {"ab": [names[:2], names[2:]]})
    circuit = st.layered(graph, st.categorical_leaves(2), 3, st.CP(), generator=seeded())
    (leaves,), (dense, mixed, top) = circuit.inputs, circuit.sums
    assert isinstance(mixed, pc.Mix)
    assert leaves.variables == (("a",), ("a",), ("b",), ("b",))
    units = np.einsum("rok,rks->ros", dense.weights.value.numpy(), leaves.parameters["probs"].value.numpy())
    product = np.einsum("pks,pkt->pkst", units[:2], units[2:])
    want = np.einsum("k,kp,pkst->st", top.weights.value[0, 0].numpy(), mixed.weights.value[0].numpy(), product)
    np.testing.assert_allclose(value_of_every_assignment(circuit), want.flatten(), rtol=1e-12)


def test_a_leaf_region_of_several_variables_is_a_product():
    graph = st.RegionGraph({"r": ["b", "a"]}, {})
    circuit = st.layered(graph, st.bernoulli_leaves(), 4, generator=seeded())
    (leaves,), (top,) = circuit.inputs, circuit.sums
    assert circuit.variables == ("b", "a")
    assert leaves.variables == (("b",), ("a",))
    p = leaves.parameters["probs"].value.numpy()
    on = np.stack([1 - p, p], -1)
    want = np.einsum("k,ks,kt->st", top.weights.value[0, 0].numpy(), on[0], on[1]).flatten()
    np.testing.assert_allclose(value_of_every_assignment(circuit), want, rtol=1e-12)


def weights_of(circuit):
    return sum(array.weights.shape.numel() for array in circuit.sums)


@pytest.mark.parametrize("width", [1, 3])
def test_every_use_of_a_region_has_weights_of_its_own(width):
    """4 x 4: 30 partitions of two parts, mixed in 5 regions that have two; one root."""
    graph = st.quad_graph(4, 4)
    k, top = width, width
    cp = st.layered(graph, st.bernoulli_leaves(), width, st.CP(), generator=seeded())
    assert weights_of(cp) == 30 * 2 * k * k + 5 * 2 * k + top
    tucker = st.layered(graph, st.bernoulli_leaves(), width, st.Tucker(), generator=seeded())
    assert weights_of(tucker) == 30 * k**3 + 5 * 2 * k + top
    quarters = st.layered(st.quad_tree(4, 4), st.bernoulli_leaves(), width, st.Tucker(), 7, generator=seeded())
    assert weights_of(quarters) == 5 * k**5 + 7 * k
    for circuit in (cp, tucker, quarters):
        assert all(array.weights.constraint is pc.simplex and array.weights.trainable for array in circuit.sums)
        assert len(circuit.inputs) == 1


def runs(wiring):
    """How many runs of consecutive rows of one child a wiring reads."""
    assert wiring.column is None
    return 1 + int(((np.diff(wiring.child) != 0) | (np.diff(wiring.region) != 1)).sum())


def test_arrays_are_few_and_read_in_runs():
    circuit = st.layered(st.quad_graph(28, 28), st.bernoulli_leaves(), 2, generator=seeded())
    assert len(circuit.sums) + len(circuit.products) + len(circuit.inputs) <= 40
    wirings = [array for array in circuit.arrays if isinstance(array, pc.Wiring)]
    assert len(wirings) <= 40
    assert max(map(runs, wirings)) <= 12
    under_sums = [array.children[0] for array in circuit.sums if isinstance(array, pc.Sum)]
    assert all(runs(child) == 1 for child in under_sums if isinstance(child, pc.Wiring))
    regular = st.layered(st.quad_graph(32, 32), st.bernoulli_leaves(), 2, generator=seeded())
    assert max(runs(array) for array in regular.arrays if isinstance(array, pc.Wiring)) <= 4
    assert len(regular.sums) == 5 * 4 + 1  # for each doubling: two uses of a square, one of a half, and a mixture
    assert len(regular.products) == 5 * 2


GRAPHS = draw.one_of(
    draw.builds(st.quad_graph, draw.integers(1, 5), draw.integers(1, 5)),
    draw.builds(st.binary_quad_tree, draw.integers(1, 5), draw.integers(1, 5)),
    draw.builds(st.quad_tree, draw.integers(1, 3), draw.integers(1, 3)),
    draw.builds(
        st.random_binary_tree,
        draw.integers(2, 9).map(range),
        draw.integers(1, 4),
        draw.integers(1, 3),
        draw.integers(0, 99).map(seeded),
    ),
    draw.builds(st.chain, draw.integers(1, 9).map(range)),
)
LEAVES = draw.sampled_from(
    [
        st.bernoulli_leaves(),
        st.categorical_leaves(3),
        st.normal_leaves(),
        st.discretized_normal_leaves(4),
        st.discretized_logistic_leaves(4, share=0.1),
    ]
)


@settings(max_examples=60)
@given(GRAPHS, LEAVES, draw.integers(1, 3), draw.sampled_from([st.CP(), st.Tucker()]), draw.integers(1, 3))
def test_any_graph_gives_a_normalised_circuit(graph, leaves, width, layer, roots):
    circuit = st.layered(graph, leaves, width, layer, roots, generator=seeded(1))
    verdicts = circuit.check()
    assert verdicts.smooth
    assert verdicts.decomposable
    assert verdicts.homogeneous
    assert verdicts.normalised
    assert circuit.num_roots == roots
    assert circuit.variables == graph.variables
    made = {circuit.labels(scope) for array in circuit.arrays for scope in circuit.region_scopes(array)}
    assert made >= set(graph.scopes.values())
    again = st.layered(graph, leaves, width, layer, roots, generator=seeded(1))
    assert all(torch.equal(a.value, b.value) for a, b in zip(circuit.parameters(), again.parameters(), strict=True))
    model = circuit.compile(dtype=torch.float64)
    x = model.root(roots - 1).sample(3, generator=seeded(2))
    assert torch.isfinite(model.log_prob(x)).all()


@settings(max_examples=25)
@given(draw.integers(1, 3), draw.integers(1, 3), draw.sampled_from([st.CP(), st.Tucker()]), draw.integers(0, 99))
def test_probabilities_of_all_images_sum_to_one(height, width, layer, seed):
    circuit = st.layered(st.quad_graph(height, width), st.bernoulli_leaves(), 2, layer, generator=seeded(seed))
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=height * width)), dtype=torch.float64)
    assert abs(circuit.compile(dtype=torch.float64).log_prob(images).logsumexp(0).item()) < 1e-9


def test_training_raises_the_likelihood():
    x = torch.tensor([[0.0, 0, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1]]).repeat(20, 1)
    for layer in (st.CP(), st.Tucker()):
        model = st.layered(st.quad_graph(2, 2), st.bernoulli_leaves(), 4, layer, generator=seeded()).compile()
        optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(80):
            optimiser.zero_grad()
            (-model.log_prob(x).mean()).backward()
            optimiser.step()
        independent = 4 * (math.log(3) - 2 / 3 * math.log(2))  # every pixel is on, or off, in one image of three
        assert math.log(3) - 1e-6 < -model.log_prob(x).mean().item() < 0.75 * independent
        assert model.to_circuit().check().normalised


def test_leaf_makers():
    made = {
        "Bernoulli": st.bernoulli_leaves(),
        "Categorical": st.categorical_leaves(5),
        "Normal": st.normal_leaves(2.0, 0.5),
        "DiscretizedNormal": st.discretized_normal_leaves(7, 0.2, 0.1),
        "DiscretizedLogistic": st.discretized_logistic_leaves(7, 0.2, 0.1),
    }
    for name, leaves in made.items():
        units = leaves(["a", 0, "a"], 50, seeded())
        assert units.family.name == name
        assert units.variables == (("a",), (0,), ("a",))
        assert units.shape == (3, 50)
        values = {key: parameter.value for key, parameter in units.parameters.items()}
        assert all(value.dtype == torch.float64 for value in values.values())
        assert all(value.unique().numel() == value.numel() for key, value in values.items() if key != "scale")
    normal = st.normal_leaves(2.0, 0.5)(range(100), 100, seeded()).parameters
    assert abs(normal["loc"].value.mean() - 2.0) < 0.02
    assert abs(normal["loc"].value.std() - 0.5) < 0.02
    assert bool((normal["scale"].value == 0.5).all())
    assert st.discretized_logistic_leaves(7, 0.2, 0.1)([0], 1, seeded()).family == pc.families.DiscretizedLogistic(
        7, 0.1
    )


@pytest.mark.errors
def test_what_is_refused():
    graph = st.quad_graph(2, 2)
    with pytest.raises(ParameterError, match="width is 0: it must be an integer >= 1"):
        st.layered(graph, st.bernoulli_leaves(), 0, generator=seeded())
    with pytest.raises(ParameterError, match=r"roots is 1\.5"):
        st.layered(graph, st.bernoulli_leaves(), 2, roots=1.5, generator=seeded())
    with pytest.raises(ParameterError, match="states is 0"):
        st.categorical_leaves(0)
    with pytest.raises(CircuitError, match=r"`leaves` was asked for \(4, 3\) units and made Input\(4, 2\)"):
        st.layered(graph, lambda v, k, g: st.bernoulli_leaves()(v, 2, g), 3, generator=seeded())
    with pytest.raises(CircuitError, match=r"`leaves` was asked for \(4, 3\) units and made None"):
        st.layered(graph, lambda v, k, g: None, 3, generator=seeded())
    with pytest.raises(ScopeError, match=r"asked for units over 0 and made units over \{3\}: region r is over"):
        st.layered(graph, lambda v, k, g: st.bernoulli_leaves()(v[::-1], k, g), 3, generator=seeded())
    with pytest.raises(ScopeError, match=r"asked for units over 'a' and made units over \{'z'\}"):
        st.layered(pair(), lambda v, k, g: st.bernoulli_leaves()(["z", "b"], k, g), 3, generator=seeded())


def test_low_rank_layers_are_products_of_two_matrices():
    circuit = st.layered(pair(), st.categorical_leaves(3), 4, st.LowRankCP(2), generator=seeded())
    (a, b), (first, second, top) = tables(circuit)
    matrices = second.weights.value.numpy() @ first.weights.value.numpy()
    left, right = matrices if first.children[0].variables[0] == ("a",) else matrices[::-1]
    want = np.einsum("k,ks,kt->st", top.weights.value.numpy()[0, 0], left @ a, right @ b).flatten()
    np.testing.assert_allclose(value_of_every_assignment(circuit), want, rtol=1e-12)


def test_shared_layers_have_one_matrix():
    circuit = st.layered(pair(), st.categorical_leaves(3), 4, st.SharedCP(), generator=seeded())
    (a, b), (dense, top) = tables(circuit)
    assert dense.weights.shape == (4, 4)
    matrix = dense.weights.value.numpy()
    want = np.einsum("k,ks,kt->st", top.weights.value.numpy()[0, 0], matrix @ a, matrix @ b).flatten()
    np.testing.assert_allclose(value_of_every_assignment(circuit), want, rtol=1e-12)


@pytest.mark.parametrize("width", [4, 6])
def test_monarch_layers_sum_within_rows_and_then_within_columns(width):
    circuit = st.layered(pair(), st.categorical_leaves(3), width, st.MonarchCP(), generator=seeded())
    (a, b), (within, across, top) = tables(circuit)
    columns = width // 2
    v = within.weights.value.numpy().reshape(2, 2, columns, columns)
    w = across.weights.value.numpy().reshape(2, columns, 2, 2)
    read = []
    for r, table in enumerate((a, b) if circuit.inputs[0].variables[0] == ("a",) else (b, a)):
        grid = table.reshape(2, columns, 3)
        grid = np.einsum("ijl,ils->ijs", v[r], grid)
        read.append(np.einsum("jih,hjs->ijs", w[r], grid).reshape(width, 3))
    left, right = read if circuit.inputs[0].variables[0] == ("a",) else read[::-1]
    want = np.einsum("k,ks,kt->st", top.weights.value.numpy()[0, 0], left, right).flatten()
    np.testing.assert_allclose(value_of_every_assignment(circuit), want, rtol=1e-12)


def test_monarch_layers_of_a_prime_width_are_dense():
    dense, monarch = (
        st.layered(pair(), st.categorical_leaves(3), 5, layer, generator=seeded())
        for layer in (st.CP(), st.MonarchCP())
    )
    np.testing.assert_array_equal(value_of_every_assignment(dense), value_of_every_assignment(monarch))


def test_replicas_are_mixed_at_the_root():
    """Two copies of {a, b}: the mixture, by unit, of two circuits of their own."""
    graph = st.replicas(pair(), 2)
    assert graph.variables == ("a", "b")
    circuit = st.layered(graph, st.categorical_leaves(3), 2, st.Tucker(), generator=seeded())
    mix = next(array for array in circuit.sums if isinstance(array, pc.Mix))
    by_copy = [
        np.stack([value_of_every_assignment(pc.Circuit(child[0, k])) for k in range(2)]) for child in mix.children
    ]
    weights = mix.weights.value.numpy()[0]
    want = circuit.root.weights.value.numpy()[0, 0] @ sum(weights[:, c, None] * by_copy[c] for c in range(2))
    np.testing.assert_allclose(value_of_every_assignment(circuit), want, rtol=1e-12)
