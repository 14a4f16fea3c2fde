"""Hidden Markov models against the forward and backward recursions in plain numpy, and what is special about them."""

import math

import numpy as np
import pytest
import torch

import pcircuits as pc
from pcircuits import structures as st

LENGTH, STATES, LETTERS = 7, 3, 4


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def numbers(circuit):
    """p(z_1), p(z_t | z_t−1) and p(x_t | z_t) of a homogeneous model."""
    by_shape = {tuple(p.shape): p.value.numpy() for p in circuit.parameters()}
    return by_shape[1, STATES][0], by_shape[STATES, STATES], by_shape[1, STATES, LETTERS][0]


def emitted(emission, row):
    """p(x_t | z_t) for each step, (T, S); 1 where x_t is missing."""
    return np.array([np.ones(STATES) if math.isnan(x) else emission[:, int(x)] for x in row])


def forward(first, between, seen):
    """α_t(k) = p(x_1..t, z_t = k), (T, S)."""
    alphas = [first * seen[0]]
    for at in seen[1:]:
        alphas.append((alphas[-1] @ between) * at)
    return np.array(alphas)


def state_probabilities(first, between, seen):
    """p(z_t = k | x), (T, S), by the two recursions."""
    alphas, betas = forward(first, between, seen), [np.ones(STATES)]
    for at in seen[:0:-1]:
        betas.insert(0, between @ (at * betas[0]))
    both = alphas * np.array(betas)
    return both / both.sum(1, keepdims=True)


def best_path(first, between, seen):
    """The most probable states and their log-probability with x, by Viterbi's recursion."""
    with np.errstate(divide="ignore"):
        value, steps = np.log(first * seen[0]), []
        for at in seen[1:]:
            scores = value[:, None] + np.log(between)
            steps.append(scores.argmax(0))
            value = scores.max(0) + np.log(at)
    path = [int(value.argmax())]
    for back in reversed(steps):
        path.insert(0, int(back[path[0]]))
    return path, value.max()


@pytest.fixture(scope="module")
def circuit():
    return st.hidden_markov(LENGTH, STATES, st.categorical_leaves(LETTERS), generator=seeded(0))


@pytest.fixture(scope="module")
def rows():
    """Sequences of all lengths from 0, and one with gaps."""
    x = torch.randint(LETTERS, (LENGTH + 2, LENGTH), generator=seeded(1)).double()
    for length in range(LENGTH + 1):
        x[length, length:] = math.nan
    x[-1, [1, 2, 5]] = math.nan
    return x


@pytest.fixture(scope="module")
def decoder(circuit):
    return pc.with_latents(circuit).compile(dtype=torch.float64)


def decoded(decoder, rows):
    return decoder.given(torch.nn.functional.pad(rows, (0, LENGTH), value=math.nan))


def test_forward(circuit, rows):
    first, between, emission = numbers(circuit)
    want = [math.log(forward(first, between, emitted(emission, row)).sum(1)[-1]) for row in rows.tolist()]
    got = circuit.compile(dtype=torch.float64).log_prob(rows).detach()
    assert torch.allclose(got, torch.tensor(want, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_shorter_sequences_are_those_of_a_shorter_model(circuit, rows):
    first, between, emission = (torch.as_tensor(value) for value in numbers(circuit))
    model = circuit.compile(dtype=torch.float64)

    def leaves(variables, width, generator):
        return pc.Categorical(variables, emission.unsqueeze(0))

    for length in (1, 3):
        short = st.hidden_markov(
            length, STATES, leaves, initial=first.unsqueeze(0), transitions=between, generator=seeded(9)
        )
        got = short.compile(dtype=torch.float64).log_prob(rows[length : length + 1, :length])
        assert torch.allclose(got, model.log_prob(rows[length : length + 1]), rtol=0, atol=1e-13)


def test_state_probabilities(circuit, decoder, rows):
    first, between, emission = numbers(circuit)
    got = decoded(decoder, rows).probabilities([f"z{t}" for t in range(LENGTH)])
    want = [state_probabilities(first, between, emitted(emission, row)) for row in rows.tolist()]
    assert torch.allclose(got, torch.as_tensor(np.array(want)), rtol=0, atol=1e-12)


def test_state_probabilities_are_posteriors_of_sums(circuit, rows):
    first, between, emission = numbers(circuit)
    given = circuit.compile(dtype=torch.float64).given(rows)
    want = np.array([state_probabilities(first, between, emitted(emission, row)) for row in rows.tolist()])
    for t, array in enumerate(reversed(circuit.sums)):
        pairs = given.posterior(array)
        of_state = pairs if array is circuit.root else pairs[:, 0].sum(1)
        assert torch.allclose(of_state, torch.as_tensor(want[:, t]), rtol=0, atol=1e-12)


def test_best_paths_sum_missing_values_out(circuit, decoder, rows):
    first, between, emission = numbers(circuit)
    given = decoded(decoder, rows)
    found = given.marginal_map([f"z{t}" for t in range(LENGTH)])
    assert bool(found.exact.all())
    for r, row in enumerate(rows.tolist()):
        path, value = best_path(first, between, emitted(emission, row))
        known = math.log(forward(first, between, emitted(emission, row)).sum(1)[-1])
        assert found.assignment[r, LENGTH:].tolist() == path
        assert found.log_prob[r].item() == pytest.approx(value - known, abs=1e-12)
    assert torch.equal(found.assignment[:, :LENGTH].isnan(), rows.isnan())


def test_paths_as_long_as_their_sequences(circuit, decoder, rows):
    first, between, emission = numbers(circuit)
    lengths = range(1, LENGTH + 1)
    given = decoded(decoder, rows[1 : LENGTH + 1])
    wanted = torch.zeros((LENGTH, 2 * LENGTH), dtype=torch.bool)
    for row, length in enumerate(lengths):
        wanted[row, LENGTH : LENGTH + length] = True
    found = given.marginal_map(wanted)
    for row, length in enumerate(lengths):
        seen = emitted(emission, rows[length].tolist())[:length]
        path, value = best_path(first, between, seen)
        assert found.assignment[row, LENGTH : LENGTH + length].tolist() == path
        assert bool(found.assignment[row, LENGTH + length :].isnan().all())
        known = math.log(forward(first, between, seen).sum(1)[-1])
        assert found.log_prob[row].item() == pytest.approx(value - known, abs=1e-12)


def test_steps_share_their_parameters(circuit, rows):
    assert [tuple(p.shape) for p in circuit.parameters()] == [(1, 3, 4), (3, 3), (1, 3)]
    model = circuit.compile(dtype=torch.float64)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    (-model.log_prob(rows).mean()).backward()
    optimiser.step()
    trained = model.to_circuit()
    assert len(list(trained.parameters())) == 3
    first, between, emission = numbers(trained)
    want = [math.log(forward(first, between, emitted(emission, row)).sum(1)[-1]) for row in rows.tolist()]
    assert torch.allclose(
        model.log_prob(rows).detach(), torch.tensor(want, dtype=torch.float64), rtol=1e-12, atol=1e-12
    )


def test_a_model_that_is_not_homogeneous_has_parameters_of_each_step():
    circuit = st.hidden_markov(4, 2, st.categorical_leaves(3), homogeneous=False, generator=seeded(2))
    shapes = sorted(tuple(p.shape) for p in circuit.parameters())
    assert shapes == [(1, 2), (2, 2), (2, 2), (2, 2), (4, 2, 3)]


def test_leaves_that_are_sums_are_shared_too():
    """Emissions that are mixtures: two Normals for each state, and the same at all steps."""

    def leaves(variables, width, generator):
        drawn = torch.rand((len(variables), 2 * width), generator=generator, dtype=torch.float64)
        units = pc.Normal(variables, drawn, 0.5)
        even = pc.Parameter(torch.full((width, 2 * width), 1 / (2 * width), dtype=torch.float64), pc.simplex)
        return units.sum(even)

    circuit = st.hidden_markov(3, 2, leaves, generator=seeded(3))
    assert len(list(circuit.parameters())) == 5
    assert circuit.variables == (0, 1, 2)
    assert bool(circuit.check().normalised)


def test_transitions_of_each_step_may_be_given():
    eye, turn = torch.eye(2).double(), torch.eye(2).double().flip(0)

    def letters(variables, width, generator):
        return pc.Categorical(variables, torch.eye(2).double().expand(len(variables), 2, 2))

    circuit = st.hidden_markov(
        3, 2, letters, False, initial=[[1.0, 0.0]], transitions=torch.stack([eye, turn]), generator=seeded(4)
    )
    value = circuit.compile(dtype=torch.float64).log_prob(torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]).double())
    assert value.exp().tolist() == [1.0, 0.0]


@pytest.mark.errors
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length"),
        ({"states": 0}, "states"),
        ({"roots": 0}, "roots"),
        ({"features": 0}, "features"),
        ({"initial": [[0.5, 0.5]]}, r"initial of a hidden Markov model has shape \(1, 2\); it needs \(1, 3\)"),
        ({"transitions": [[0.5, 0.5]] * 2}, r"transitions of a hidden Markov model has shape .* needs \(3, 3\)"),
        ({"transitions": torch.full((2, 3, 3), 1 / 3), "homogeneous": False}, r"4 steps need \(3, 3\) or \(3, 3, 3\)"),
        ({"initial": [[0.5, 0.2, 0.2]]}, "initial"),
    ],
)
def test_what_does_not_fit(options, message):
    asked = {"length": 4, "states": 3, "leaves": st.bernoulli_leaves(), "generator": seeded(5), **options}
    with pytest.raises(pc.ParameterError, match=message):
        st.hidden_markov(**asked)
