"""hmmlearn as the other contender of hmm.py: in an environment of its own, it obeys lines of JSON.

    {"do": "build", "file": "model.npz", "way": "log"}   # initial (S,), transitions (S, S), emissions (S, L)
    {"do": "data", "file": "rows.npz"}                   # x (B, T) integers
    {"do": "answers", "file": "answers.npz"}             # writes forward (B,), states (B, T, S), values and paths (B, T)
    {"do": "time", "what": "forward"}                    # answers {"seconds": ...}

It imports nothing of this repository, and uses hmmlearn by its public interface.
"""

from __future__ import annotations

import json
import sys
import time

import hmmlearn
import numpy as np
from hmmlearn.hmm import CategoricalHMM


class Peer:
    """The model, the rows, and what can be timed of them."""

    def build(self, file: str, way: str) -> dict[str, object]:
        """A model with these parameters; `way` is how its recursions keep their numbers in range: "log" or "scaling"."""
        with np.load(file) as arrays:
            states, letters = arrays["emissions"].shape
            self.model = CategoricalHMM(states, implementation=way)
            self.model.n_features = letters
            self.model.startprob_, self.model.transmat_ = arrays["initial"], arrays["transitions"]
            self.model.emissionprob_ = arrays["emissions"]
        return {"hmmlearn": hmmlearn.__version__}

    def data(self, file: str) -> dict[str, object]:
        """Sequences of one length, end to end."""
        with np.load(file) as arrays:
            self.rows = arrays["x"]
        self.x, self.lengths = self.rows.reshape(-1, 1), [self.rows.shape[1]] * len(self.rows)
        return {}

    def answers(self, file: str) -> dict[str, object]:
        """Write what it says of each sequence."""
        each = [row.reshape(-1, 1) for row in self.rows]
        paths = [self.model.decode(row) for row in each]
        np.savez(
            file,
            forward=np.array([self.model.score(row) for row in each]),
            states=np.array([self.model.predict_proba(row) for row in each]),
            values=np.array([value for value, _ in paths]),
            paths=np.array([path for _, path in paths]),
        )
        return {}

    def time(self, what: str) -> dict[str, object]:
        """The seconds of one run over all sequences."""
        run = getattr(self, what)
        begin = time.perf_counter()
        run()
        return {"seconds": time.perf_counter() - begin}

    def forward(self) -> None:
        self.model.score(self.x, self.lengths)

    def states(self) -> None:
        self.model.predict_proba(self.x, self.lengths)

    def path(self) -> None:
        self.model.decode(self.x, self.lengths)


def main() -> None:
    """Answer every line with a line."""
    peer = Peer()
    commands = {name: getattr(peer, name) for name in ("build", "data", "answers", "time")}
    for line in sys.stdin:
        message = json.loads(line)
        print(json.dumps(commands[message.pop("do")](**message)), flush=True)


if __name__ == "__main__":
    main()
