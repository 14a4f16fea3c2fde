"""The default quantiser: a codebook that follows the encoder by exponential moving averages."""

from __future__ import annotations

from vq_sources.quantizers.wrapped import WrappedQuantizer

__all__ = ["ema_quantizer"]


def ema_quantizer(
    dim: int,
    num_codes: int,
    codebook_dim: int | None = None,
    decay: float = 0.95,
    dead_code_threshold: float = 1.0,
) -> WrappedQuantizer:
    """A vector quantiser with an EMA codebook, k-means initialisation and revival of dead codes.

    N_k <- γ N_k + (1 − γ) n_k,  m_k <- γ m_k + (1 − γ) Σ_{i: z_i = k} v_i,  e_k = m_k / N_k; a code whose N_k falls
    below the threshold is replaced by a vector of the batch. Gradients pass straight through; the auxiliary loss is the
    mean of (v − e)².

    **Arguments**

    - `dim`: the width d of the vectors.
    - `num_codes`: K.
    - `codebook_dim`: the width of the codebook's vectors (None: d); a linear map goes there and back where it differs.
    - `decay`: γ.
    - `dead_code_threshold`: N_k, in vectors per batch, below which a code is revived; 0 never.

    **Source**: van den Oord, Vinyals, Kavukcuoglu 2017, *Neural Discrete Representation Learning*, appendix A.1,
    equations (6) to (8).

    **Example**

    >>> quantizer = ema_quantizer(dim=8, num_codes=16)
    >>> quantizer.num_codes, quantizer.initialised
    (16, False)
    """
    try:
        from vector_quantize_pytorch import VectorQuantize
    except ImportError as error:
        raise ImportError('A VQ model needs vector-quantize-pytorch: pip install "pcircuits[vq]".') from error
    module = VectorQuantize(
        dim=dim,
        codebook_size=num_codes,
        codebook_dim=codebook_dim,
        decay=decay,
        kmeans_init=True,
        threshold_ema_dead_code=dead_code_threshold,
        commitment_weight=1.0,
        rotation_trick=False,
    )
    return WrappedQuantizer(module)
