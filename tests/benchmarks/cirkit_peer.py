"""cirkit as the other contender of layered.py and tucker.py: in an environment of its own, it obeys lines of JSON.

    {"do": "build", "file": "circuit.npz", "device": "cpu", "threads": 2}
    {"do": "data", "file": "rows.npz"}               # x (B, D) integers, missing (B, D)
    {"do": "log_prob", "file": "answer.npz"}         # writes log_prob (B,) and marginal (B,)
    {"do": "time", "what": "forward"}                # answers {"seconds": ...}
    {"do": "own", "height": 28, "width": 28, "units": 16, "states": 256}    # cirkit's own quad graph instead

It imports nothing of this repository, and uses cirkit by its public interface, but for one constant (see `_lift_clamp`).
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch
from cirkit.backend.torch import semiring
from cirkit.backend.torch.queries import IntegrateQuery
from cirkit.pipeline import PipelineContext
from cirkit.symbolic.circuit import Circuit
from cirkit.symbolic.initializers import ConstantTensorInitializer
from cirkit.symbolic.layers import CategoricalLayer, HadamardLayer, KroneckerLayer, SumLayer
from cirkit.symbolic.parameters import MixingWeightParameter, Parameter, SoftmaxParameter, TensorParameter
from cirkit.templates.data_modalities import image_data
from cirkit.templates.utils import Parameterization
from cirkit.utils.scope import Scope

LEAF, DENSE, PRODUCT, MIX, OUTER = range(5)  # as in layered.py


def _lift_clamp() -> None:
    """cirkit 0.3.1 holds log-values at -708 or more, for float32 too: of 784 pixels that is every value there is.

    The bound is the constant `LOG_CLAMP_MIN` of cirkit.backend.torch.semiring, read by each operation of the semirings;
    the operation stays, and costs what it costs.
    """
    if not isinstance(getattr(semiring, "LOG_CLAMP_MIN", None), float):
        raise SystemExit("this cirkit has no LOG_CLAMP_MIN: see how it bounds log-values now")
    semiring.LOG_CLAMP_MIN = -float("inf")


def _simplex(values: np.ndarray) -> Parameter:
    """Trainable: the softmax of the logarithms of what is given."""
    logits = np.log(values).astype(np.float32)
    tensor = TensorParameter(*logits.shape, initializer=ConstantTensorInitializer(logits))
    return Parameter.from_sequence(tensor, SoftmaxParameter(logits.shape, axis=-1))


def _layer(kind: int, values: np.ndarray, variable: int, arity: int, width: int) -> object:
    """The symbolic layer of one region of an array."""
    if kind == LEAF:
        return CategoricalLayer(Scope([variable]), len(values), num_categories=values.shape[1], probs=_simplex(values))
    if kind == DENSE:
        return SumLayer(values.shape[1], values.shape[0], 1, weight=_simplex(values))
    if kind == PRODUCT:
        return HadamardLayer(width, arity)
    if kind == OUTER:
        return KroneckerLayer(round(width ** (1 / arity)), arity)
    weight = Parameter.from_unary(MixingWeightParameter(values.shape), _simplex(values))
    return SumLayer(len(values), len(values), arity, weight=weight)


def symbolic(arrays: dict[str, np.ndarray]) -> Circuit:
    """The symbolic circuit of the arrays that layered.py writes."""
    layers: list = []
    inputs = {}
    for i, kind in enumerate(arrays["kind"].tolist()):
        children = arrays["inputs"][arrays["first_input"][i] : arrays["first_input"][i + 1]].tolist()
        values = arrays["values"][arrays["first_value"][i] : arrays["first_value"][i + 1]]
        shape = tuple(arrays["shape"][i].tolist())
        layer = _layer(kind, values.reshape(shape), int(arrays["variable"][i]), len(children), int(arrays["width"][i]))
        inputs[layer] = [layers[child] for child in children]
        layers.append(layer)
    return Circuit(layers, inputs, [layers[-1]])


class Peer:
    """The compiled circuit, the rows, and what can be timed of them."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")

    def build(self, file: str, device: str, threads: int) -> dict[str, object]:
        """Compile the circuit of a file, folded and optimised."""
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = False
        self.device = torch.device(device)
        with np.load(file) as arrays:
            circuit = symbolic(dict(arrays))
        return self._compile(circuit)

    def own(self, height: int, width: int, units: int, states: int) -> dict[str, object]:
        """Compile cirkit's own quad graph of these sizes."""
        if states != 256:
            raise SystemExit("cirkit's own image circuits have 256 states")
        softmax = Parameterization(activation="softmax", initialization="normal")
        circuit = image_data(
            (1, height, width),
            "quad-graph",
            input_layer="categorical",
            num_input_units=units,
            sum_product_layer="cp",
            num_sum_units=units,
            sum_weight_param=softmax,
        )
        return self._compile(circuit)

    def _compile(self, circuit: Circuit) -> dict[str, object]:
        begin = time.perf_counter()
        context = PipelineContext(backend="torch", semiring="lse-sum", fold=True, optimize=True)
        self.model = context.compile(circuit).to(self.device)
        seconds = time.perf_counter() - begin
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        layers = len(list(self.model.layers))
        parameters = sum(p.numel() for p in self.model.parameters())
        return {"seconds": seconds, "layers": layers, "parameters": parameters, "torch": torch.__version__}

    def data(self, file: str) -> dict[str, object]:
        """Rows, and which of their values are missing."""
        with np.load(file) as arrays:
            self.x = torch.as_tensor(arrays["x"]).to(self.device)
            self.missing = torch.as_tensor(arrays["missing"]).to(self.device)
        return {}

    def log_prob(self, file: str) -> dict[str, object]:
        """Write the log-likelihoods and the marginal ones."""
        with torch.no_grad():
            answers = {"log_prob": self.forward(), "marginal": self.marginal()}
        np.savez(file, **{name: values.flatten().double().cpu().numpy() for name, values in answers.items()})
        return {}

    def time(self, what: str) -> dict[str, object]:
        """The seconds of one run; for a step of Adam also those of the optimiser."""
        if what == "adam":
            total, optimiser = self._adam()
            return {"seconds": total, "optimiser": optimiser}
        run = {"forward": self.forward, "marginal": self.marginal, "forward_backward": self.forward_backward}[what]
        self.model.zero_grad()
        with torch.set_grad_enabled(what == "forward_backward"):
            begin = self._now()
            run()
            return {"seconds": self._now() - begin}

    def forward(self) -> torch.Tensor:
        return self.model(self.x)

    def marginal(self) -> torch.Tensor:
        return IntegrateQuery(self.model)(self.x, integrate_vars=self.missing)

    def forward_backward(self) -> None:
        (-self.model(self.x).mean()).backward()

    def _adam(self) -> tuple[float, float]:
        self.optimizer.zero_grad()
        begin = self._now()
        self.forward_backward()
        middle = self._now()
        self.optimizer.step()
        end = self._now()
        return end - begin, end - middle

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def main() -> None:
    """Answer every line with a line."""
    _lift_clamp()
    peer = Peer()
    commands = {name: getattr(peer, name) for name in ("build", "own", "data", "log_prob", "time")}
    for line in sys.stdin:
        message = json.loads(line)
        print(json.dumps(commands[message.pop("do")](**message)), flush=True)


if __name__ == "__main__":
    main()
