"""Whether a quantiser decodes what it encodes, found by running it; if not, the option at fault."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from vq_sources.errors import QuantizerError
from vq_sources.quantizers.seeding import seeded

__all__ = ["check_quantizer", "decode"]

_Suspect = tuple[str, Callable[[nn.Module], bool], str]

# Options of vector-quantize-pytorch that break the laws, most telling first (measured in versions 1.20 to 1.32).
_SUSPECTS: tuple[_Suspect, ...] = (
    ("diveq=True", lambda m: bool(getattr(m, "diveq", False)), "its output is not a codeword: leave diveq off"),
    (
        "vq_bridge",
        lambda m: any(getattr(part, "vq_bridge", None) is not None for part in m.modules()),
        "the bridge changes the codebook inside the forward pass, where codes alone cannot follow: leave vq_bridge out",
    ),
    (
        "affine_param=True",
        lambda m: any(bool(getattr(part, "affine_param", False)) for part in m.modules()),
        "the codebook is rescaled by the statistics of each batch: leave affine_param off",
    ),
    (
        "accept_image_fmap=True",
        lambda m: bool(getattr(m, "accept_image_fmap", False)),
        "vectors are (B, P, d) here, channels last: leave accept_image_fmap off",
    ),
    (
        "accept_3d_fmap=True",
        lambda m: bool(getattr(m, "accept_3d_fmap", False)),
        "vectors are (B, P, d) here, channels last: leave accept_3d_fmap off",
    ),
    (
        "channel_last=False",
        lambda m: not getattr(m, "channel_last", True),
        "vectors are (B, P, d) here, channels last: leave channel_last on",
    ),
    (
        "heads > 1",
        lambda m: int(getattr(m, "heads", 1)) > 1,
        "there must be one code per position: take heads=1 and a larger grid",
    ),
    (
        "num_quantizers",
        lambda m: hasattr(m, "num_quantizers"),
        "there must be one code per position: take VectorQuantize and a larger grid",
    ),
)


def check_quantizer(module: nn.Module) -> None:
    """Raise `QuantizerError` unless, in eval mode, `module` decodes its codes to its output and keeps its state.

    A copy runs on fixed vectors of a 2 × 3 grid: two forward passes agree, no state moves, decode(encode) equals the
    forward pass, codes are integers (B, P) in range; in training mode a forward pass with `freeze_codebook=True` moves
    no state and passes gradients to the vectors. `module` itself is not run.
    """
    try:
        problem = _problem(module) or _problem_in_training(module)
    except (AssertionError, AttributeError, LookupError, NameError, RuntimeError, TypeError, ValueError) as error:
        said = (str(error).strip() or repr(error)).splitlines()[0]
        problem = f"it fails on vectors (B, P, d): {said}"
    if problem:
        raise QuantizerError(f"{type(module).__name__} cannot be used as a quantiser: {problem}. {_fault(module)}")


def decode(module: nn.Module, codes: Tensor) -> Tensor:
    """project_out(codebook[codes]): (B, P) to (B, P, d)."""
    project_out: nn.Module = module.project_out  # type: ignore[assignment]
    codebook: Tensor = module.codebook  # type: ignore[assignment]
    vectors: Tensor = project_out(codebook[codes])
    return vectors


@torch.no_grad()
def _problem(module: nn.Module) -> str:
    missing = [name for name in ("dim", "codebook_size", "codebook", "project_out") if not hasattr(module, name)]
    if missing:
        return f"it is not made of one codebook (it has no {', '.join(missing)})"
    probe = deepcopy(module).cpu().eval()
    dim, size = int(probe.dim), int(probe.codebook_size)  # type: ignore[arg-type]
    reference = next((p for p in probe.parameters()), torch.zeros(()))
    grid = torch.randn(3, 6, dim, generator=torch.Generator().manual_seed(0)).to(reference.dtype)
    with seeded(torch.Generator().manual_seed(0)):
        enough = torch.randn(1, max(64, 4 * size), dim, dtype=grid.dtype)
        probe(enough)  # may initialise the codebook by k-means; everything below must not
        before = {name: value.clone() for name, value in probe.state_dict().items()}
        (vectors, codes), (again, codes_again) = probe(grid)[:2], probe(grid)[:2]
    moved = [name for name, value in probe.state_dict().items() if not _same(value, before.get(name))]
    if codes.shape != grid.shape[:2]:
        return f"it gives codes of shape {tuple(codes.shape)} for vectors (3, 6, {dim}), where (3, 6) is needed"
    if codes.is_floating_point() or int(codes.min()) < 0 or int(codes.max()) >= size:
        return f"its codes are not integers in 0..{size - 1} ({codes.dtype}, from {codes.min()} to {codes.max()})"
    if moved:
        return f"an eval forward pass changes its state ({', '.join(moved)})"
    if not torch.equal(vectors, again) or not torch.equal(codes, codes_again):
        return "two eval forward passes of the same vectors differ"
    decoded = decode(probe, codes.to(torch.int64))
    if decoded.shape != vectors.shape or not torch.allclose(decoded, vectors, rtol=1e-4, atol=1e-5):
        return "project_out(codebook[codes]) is not the output of its eval forward pass"
    return ""


def _problem_in_training(module: nn.Module) -> str:
    """The forward pass as a model trains with it, the codebook held."""
    probe = deepcopy(module).cpu()
    reference = next((p for p in probe.parameters()), torch.zeros(()))
    vectors = torch.randn(3, 6, int(probe.dim), generator=torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    vectors = vectors.to(reference.dtype)
    with torch.enable_grad(), seeded(torch.Generator().manual_seed(0)):
        with torch.no_grad():
            probe.eval()(torch.randn(1, max(64, 4 * int(probe.codebook_size)), int(probe.dim)).to(vectors))  # type: ignore[arg-type]
        before = {name: value.clone() for name, value in probe.state_dict().items()}
        answer = probe.train()(vectors.requires_grad_(), freeze_codebook=True)
        if len(answer) != 3 or not isinstance(answer[2], Tensor):
            return f"its forward pass gives {len(answer)} things, where vectors, codes and a loss are needed"
        (gradient,) = torch.autograd.grad(answer[0].sum() + answer[2].sum(), [vectors], allow_unused=True)
    moved = [name for name, value in probe.state_dict().items() if not _same(value, before.get(name))]
    if moved:
        return f"a forward pass with freeze_codebook=True changes its state ({', '.join(moved)})"
    return "" if gradient is not None and bool(gradient.any()) else "no gradient passes to the vectors"


def _same(value: Tensor, before: Tensor | None) -> bool:
    """Whether a buffer is what it was; one that was never initialised may hold NaN, which is itself."""
    return before is not None and torch.allclose(value, before, rtol=0.0, atol=0.0, equal_nan=True)


def _fault(module: nn.Module) -> str:
    for option, active, remedy in _SUSPECTS:
        if active(module):
            return f"The option at fault is {option}: {remedy}"
    works = "vector_quantize_pytorch.VectorQuantize(dim, codebook_size, rotation_trick=False)"
    if all(cls.__name__ != "VectorQuantize" for cls in type(module).__mro__):
        return f"Take {works}, or write a quantiser of your own: a subclass of vq_sources.quantizers.AbstractQuantizer"
    return f"No option known to do this is set: compare its options with those of {works}, which works"
