"""The size of a base in llama.cpp's quantized files, from the number of its parameters by role."""

from __future__ import annotations

from collections.abc import Mapping

#: Bits a number, the scales of its block included: bytes of a block · 8 / numbers in it (ggml's block layouts).
BITS = {"f32": 32.0, "f16": 16.0, "q8_0": 34 * 8 / 32, "q6_k": 210 * 8 / 256, "q4_k": 144 * 8 / 256}


def sizes(blocks: Mapping[str, int]) -> dict[str, int]:
    """Return the bytes of the weights in two types that llama.cpp users take; its metadata adds a megabyte or two.

    Parameters
    ----------
    blocks : mapping of str to int
        Parameters by role: ``norms`` (and biases) stay in float32. ``q4_k_m`` keeps the ``head`` and the ``fine`` part
        (attention's values and the MLP's down projection, in about half of the layers) in six bits and ``coarse`` and
        ``embedding`` in four; a head that is the embedding is one tensor, in six bits.

    Returns
    -------
    dict
        ``{"q8_0": bytes, "q4_k_m": bytes}``
    """
    norms = blocks["norms"] * BITS["f32"]
    matrices = sum(blocks.values()) - blocks["norms"]
    six = blocks["head"] + blocks["fine"]
    return {
        "q8_0": round((norms + matrices * BITS["q8_0"]) / 8),
        "q4_k_m": round((norms + six * BITS["q6_k"] + (matrices - six) * BITS["q4_k"]) / 8),
    }
