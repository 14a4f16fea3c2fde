"""`check_vq_source`: whether a VQ model keeps the protocol that selection and distillation rest on."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pcircuits.testing import check_source
from vq_sources.codes import CodeSet, Provenance
from vq_sources.distil import DecoderSource, distil
from vq_sources.protocols import (
    ImageVQDecoder,
    VQSource,
    check_codes,
    grid_of,
    leaf_groups,
    likelihood_by_group,
)

__all__ = ["check_vq_source"]

DIGITS = {torch.float64: 1e-9, torch.float32: 1e-4}


def check_vq_source(source: VQSource, images: Tensor) -> None:
    """Check a VQ model: its declarations, `encode`, `likelihood`, and the circuit that is distilled from it.

    **Arguments**

    - `source`: the model; where it is an `nn.Module`, also as the source of a circuit's parameters.
    - `images`: what `encode` takes, with B at least 4: (B, H, W) integers below `levels`, or (B, D) rows of data for a source
      that is not of images.

    **Raises** `AssertionError` that names what differs; the errors of `vq_sources` for codes or parameters out of range.

    >>> from vq_sources import VQVAE, VQVAEConfig
    >>> images = torch.randint(17, (20, 8, 8), generator=torch.Generator().manual_seed(0))
    >>> model = VQVAE(VQVAEConfig(num_codes=3, hidden=8), torch.Generator().manual_seed(0))
    >>> model.prepare((images,))
    >>> check_vq_source(model, images[:6])
    """
    if not isinstance(source, VQSource):
        missing = [name for name in dir(VQSource) if not name.startswith("_") and not hasattr(source, name)]
        raise AssertionError(f"{type(source).__name__} lacks {missing} of vq_sources.protocols.VQSource")
    was_training = source.training if isinstance(source, nn.Module) else False
    try:
        with torch.no_grad():
            codes = _encodes(source, images)
            _decodes(source, codes)
            _is_distilled(source, codes, images)
        if isinstance(source, nn.Module):
            distinct = torch.unique(torch.cat([codes, torch.zeros_like(codes[:1]), torch.ones_like(codes[:1])]), dim=0)
            distinct = distinct.clamp(max=torch.tensor(source.cardinalities, device=codes.device) - 1).unique(dim=0)
            for number, group in enumerate(leaf_groups(source)):
                check_source(DecoderSource(source, distinct, number), group.family, len(distinct))
    finally:
        if isinstance(source, nn.Module):
            source.train(was_training)


def _in_both_modes(source: VQSource, answer: Callable[[], Tensor], what: str) -> None:
    """The same in train and eval; and what the model holds stays as it is."""
    if not isinstance(source, nn.Module):
        return
    state = {name: value.clone() for name, value in source.state_dict().items() if isinstance(value, Tensor)}
    answers = [(source.train(mode), answer())[1] for mode in (True, False, True)]
    for other in answers[1:]:
        if not torch.equal(other, answers[0]):
            raise AssertionError(f"{what} differs between train and eval mode, or between two calls")
    for name, value in state.items():
        if not torch.equal(source.state_dict()[name], value):
            raise AssertionError(f"{what} moves {name} of the model")


def _encodes(source: VQSource, images: Tensor) -> Tensor:
    """int64 (B, P) within the cardinalities, row by row as in a batch, images untouched."""
    before = images.clone()
    codes = source.encode(images)
    grid = grid_of(source)
    positions = grid[0] * grid[1]
    if len(source.cardinalities) != positions:
        raise AssertionError(f"a grid {grid} has {positions} positions, and {len(source.cardinalities)} cardinalities")
    if codes.dtype != torch.int64 or codes.shape != (len(images), positions):
        raise AssertionError(f"encode gives {tuple(codes.shape)} {codes.dtype}, not int64 {(len(images), positions)}")
    check_codes(codes, source.cardinalities)
    if not torch.equal(images, before):
        raise AssertionError("encode changes the images in place")
    if not torch.equal(source.encode(images[2:3]), codes[2:3]):
        raise AssertionError("the codes of an image depend on the batch that it is in")
    if not torch.equal(source.encode(images.flip(0)).flip(0), codes):
        raise AssertionError("the codes of an image depend on the order of the batch")
    if source.encode(images[:0]).shape != (0, positions):
        raise AssertionError("encode of no images is not (0, P)")
    _in_both_modes(source, lambda: source.encode(images), "encode")
    return codes


def _decodes(source: VQSource, codes: Tensor) -> None:
    """The families' parameters (N, D), within their constraints, code by code as in a batch."""
    groups = leaf_groups(source)
    made, alone = likelihood_by_group(source, codes), likelihood_by_group(source, codes[1:2])
    for number, group in enumerate(groups):
        family, variables = group.family, len(group.labels)
        if set(made[number]) != set(family.parameters):
            raise AssertionError(f"likelihood gives {sorted(made[number])}; {family} has {list(family.parameters)}")
        for name, value in made[number].items():
            if value.shape[:2] != (len(codes), variables):
                raise AssertionError(f"likelihood gives {name} as {tuple(value.shape)}, not {(len(codes), variables)}")
            if not bool(family.parameters[name].constraint.admits(value).all()):
                raise AssertionError(f"likelihood gives {name} outside its constraint")
            if not torch.allclose(alone[number][name], value[1:2], rtol=0, atol=DIGITS.get(value.dtype, 1e-4)):
                raise AssertionError(f"{name} of a code depends on the batch that it is in")

            def again(number: int = number, name: str = name) -> Tensor:
                return likelihood_by_group(source, codes)[number][name]

            _in_both_modes(source, again, "likelihood")


def _is_distilled(source: VQSource, codes: Tensor, images: Tensor) -> None:
    """log Σ_n 1/N Π_v p(x_v | z_n), from the circuit and from the model itself."""
    distinct = torch.unique(codes, dim=0)
    made = likelihood_by_group(source, distinct)
    dtype = next(iter(made[0].values())).dtype
    x = images.flatten(1).to(dtype)
    if isinstance(source, ImageVQDecoder) and source.family.base == "lebesgue":
        x = (x + 0.5) / source.levels
    count = len(distinct)
    uniform = torch.full((count,), -math.log(count), dtype=torch.float64, device=codes.device)
    chosen = CodeSet(
        distinct, uniform, grid_of(source), tuple(source.cardinalities), Provenance("encoded", None, count, count, "")
    )
    circuit = distil(source, chosen, "uniform", eager=not isinstance(source, nn.Module))
    want = torch.zeros((len(x), count), dtype=torch.float64, device=x.device)
    for group, of_group in zip(leaf_groups(source), made, strict=True):
        parameters = {name: value.double() for name, value in of_group.items()}
        want += group.family.log_density(x[:, None, list(group.columns)].double(), parameters).sum(2)
    got = circuit.compile(dtype=dtype, device=x.device).log_prob(x).double()
    _close_logs(got, want.logsumexp(1) - math.log(count), DIGITS.get(dtype, 1e-4))


def _close_logs(got: Tensor, want: Tensor, digits: float) -> None:
    right = (got == want) | ((got - want).abs() <= digits * want.abs().clamp(min=1.0))
    if not bool(right.all()):
        b = int((~right).nonzero()[0])
        raise AssertionError(f"the distilled circuit gives image {b} {got[b].item()!r}, the model {want[b].item()!r}")
