"""Run with little memory: `python little_memory.py query|files FOLDER`; says what happened, one line each."""

import resource
import struct
import sys
from pathlib import Path

import torch

import pcircuits as pc
from pcircuits.errors import FileFormatError, MemoryBoundError
from pcircuits.learning.checkpoint import CheckpointError, load_checkpoint
from vq_sources.cli.selecting import read_selection
from vq_sources.models import VQVAE, VQVAEConfig, load_model

ROWS = 20_000


def allow(megabytes: int) -> None:
    """From here on, the process may take so much more address space."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + megabytes * 2**20, resource.RLIM_INFINITY))


def query() -> None:
    """All rows together do not fit; the error names the bound, and a lower one fits."""
    probs = torch.softmax(torch.randn(30, 64, 4, generator=torch.Generator().manual_seed(0)), -1)
    units = pc.Categorical(range(30), probs)
    weights = torch.full((30, 64, 64), 1 / 64)
    circuit = pc.Circuit(units.sum(weights).prod().sum(torch.full((64,), 1 / 64)))
    x = torch.zeros(ROWS, 30)
    bounds = {"high": 2**40, "low": 2**24}
    models = {
        name: circuit.compile(memory=memory, rewrites=("chunk",) if name == "low" else ())
        for name, memory in bounds.items()
    }
    with torch.no_grad():
        models["low"].mean()  # what is made once
        models["high"].mean()
        allow(200)
        for name, model in models.items():
            try:
                print(name, len(model.given(x).mean()))
            except MemoryBoundError as error:
                print(name, error)


def files(folder: Path) -> None:
    """Files that declare terabytes, of every kind that is read."""
    header = (
        '{"__metadata__":{"format":"pcircuits","version":"1","digest":"%s"},"a":{"dtype":"F64","shape":[%d],'
        '"data_offsets":[0,%d]}}'
    )
    text = (header % ("0" * 64, 2**40, 2**43)).encode()
    contents = {
        "tensor": struct.pack("<Q", len(text)) + text + bytes(64),
        "header": struct.pack("<Q", 2**43) + text,
        "long": struct.pack("<Q", 99_999_999) + text,
    }
    readers = {
        "circuit": pc.load,
        "selection": read_selection,
        "model": lambda path: load_model(path, {"VQVAE": (VQVAEConfig, VQVAE)}),
        "checkpoint": load_checkpoint,
    }
    allow(50)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for kind, read in readers.items():
        for name, content in contents.items():
            path = folder / f"{kind}-{name}"
            path.write_bytes(content)
            try:
                read(path)
            except (FileFormatError, CheckpointError) as error:
                print("refused", str(path) in str(error))
    print("megabytes", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)


if __name__ == "__main__":
    query() if sys.argv[1] == "query" else files(Path(sys.argv[2]))
