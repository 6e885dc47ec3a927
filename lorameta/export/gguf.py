"""A LoRA adapter as llama.cpp reads it: one GGUF file beside the GGUF of the base, whatever that is quantized to.

The format is that of llama.cpp's ``convert_lora_to_gguf.py``: ``general.type = adapter``, ``adapter.type = lora``,
``adapter.lora.alpha``, and for each layer ``<name>.weight.lora_a`` (r, d_in) and ``.lora_b`` (d_out, r) under
llama.cpp's name for it. llama.cpp adds ``alpha / r · B A``, with r from the shape of each B.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lorameta.adapter import Adapter
from lorameta.adapter.lora import LoraPair
from lorameta.base_model.weights import Weights, check_fit, find_base, read_config, tied
from lorameta.errors import BankError, LorametaError, UsageError, requires, violations
from lorameta.export.output_tensor import base_file, write_with_output
from lorameta.export.result import Exported
from lorameta.files import tensors
from lorameta.files.atomic import fresh_file
from lorameta.files.links import user_path

#: Architecture in config.json -> (llama.cpp's name of it, whether the rows of q and k are put in another order).
#: transformers turns pairs (i, i + d/2) of a head, llama.cpp pairs (2i, 2i + 1) for these models, so that its
#: converter reorders the rows of their q and k. The others are turned as in transformers.
ARCHITECTURES: dict[str, tuple[str, bool]] = {
    "LlamaForCausalLM": ("llama", True),
    "MistralForCausalLM": ("llama", True),
    "GraniteForCausalLM": ("granite", True),
    "SmolLM3ForCausalLM": ("smollm3", True),
    "Qwen2ForCausalLM": ("qwen2", False),
    "Qwen3ForCausalLM": ("qwen3", False),
    "GemmaForCausalLM": ("gemma", False),
    "Gemma2ForCausalLM": ("gemma2", False),
    "Gemma3ForCausalLM": ("gemma3", False),
    "PhiForCausalLM": ("phi2", False),
    "Phi3ForCausalLM": ("phi3", False),
    "Olmo2ForCausalLM": ("olmo2", False),
    "StableLmForCausalLM": ("stablelm", False),
    "Starcoder2ForCausalLM": ("starcoder2", False),
    "GPT2LMHeadModel": ("gpt2", False),  # a GGUF, like PEFT, does not hold its layers transposed
}
#: Layers whose input is the hidden state: a check where the base's weights are not at hand.
ON_THE_STREAM = (*(f".{name}_proj" for name in ("q", "k", "v", "qkv", "gate", "up", "gate_up")), ".c_attn", ".c_fc")

#: `dtype` -> the safetensors code of it, which `lorameta.files.tensors` rounds to.
DTYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16"}


def export_gguf(
    adapter: Adapter | str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    base: str | os.PathLike[str] | None = None,
    dtype: str = "f32",
    base_gguf: str | os.PathLike[str] | None = None,
) -> Exported:
    """Write an adapter as a GGUF file for llama.cpp (``--lora``), Ollama and what is built on them.

    llama.cpp cannot apply an adapter to a head that the base ties to its embedding. Where the adapter changes such a
    head, the file holds the other layers, and a copy of the base's GGUF file with a head of its own is written beside
    it, to be used in the base's place: :func:`lorameta.export.output_tensor.write_with_output`.

    Parameters
    ----------
    adapter : Adapter or path of a PEFT directory
    output : path
        The file; an older one is replaced when the new one is whole.
    base : path or Hub id, optional
        The base, by default the one that the adapter names. Its ``config.json`` is enough; if its weights lie beside
        it, their names and shapes are compared as well.
    dtype : {"f32", "f16", "bf16"}
        What the numbers are stored as.
    base_gguf : path, optional
        The base as llama.cpp runs it; only needed where a tied head is changed. By default that of the package that
        the base came from, if it did.

    Returns
    -------
    Exported
        ``details``: ``architecture``, ``alpha``, and ``model``, the copy of the base with a head of its own, or None.

    Raises
    ------
    MissingExtraError
        The package gguf is not installed.
    UsageError
        An unknown dtype, numbers too large for it, an `output` that is a directory or another file, a base that is
        not here.
    BankError
        The adapter does not fit the base, changes layers that llama.cpp has no name for, or the base is of an
        architecture that is not known here; all layers are named.
    LorametaError
        The file cannot be written, or does not read back as it was written.

    Notes
    -----
    Where all layers share one alpha = scaling · r, A and B are those of the adapter bit for bit. Otherwise alpha is
    the largest rank and the rest of the scaling is folded into B.
    """
    gguf = _library()
    if dtype not in DTYPES:
        raise UsageError(f"unknown dtype {dtype!r} for gguf; there are {', '.join(DTYPES)}")
    target = user_path(output)
    if target.is_dir():
        raise UsageError(f"{target} is a directory; name a file in it, e.g. {target / 'adapter.gguf'}")
    if target.is_file() and _head(target) not in (b"", b"GGUF"):
        raise UsageError(f"{target} is no GGUF file; it would be replaced, so nothing is written. Name another file")
    adapter = adapter if isinstance(adapter, Adapter) else Adapter.from_pretrained(adapter)
    adapter.warn_if_zero(adapter.name or "the adapter")
    directory = find_base(adapter, base, weights=False)
    config = read_config(directory)
    architecture, permuted = _architecture(config, directory)
    if not config.get("quantization_config"):  # packed weights have other shapes
        _compare(adapter, config, directory)
    head = {module: pair for module, pair in adapter.modules.items() if tied(module, config)}
    if head:
        base_gguf = base_file(adapter.base_model, base_gguf)
        adapter = replace(
            adapter, modules={name: adapter.modules[name] for name in adapter.modules if name not in head}
        )
    names = _names(gguf, adapter, config, architecture, permuted)
    alpha, code = _alpha(adapter.modules), DTYPES[dtype]
    arrays: dict[str, np.ndarray] = {}
    stored: dict[str, LoraPair] = {}
    for module, pair in adapter.modules.items():
        own = pair.scaling * pair.rank
        factor = np.float32(1.0 if np.float32(own) == alpha else own / alpha)
        A, B = tensors.narrow(pair.A, code), tensors.narrow(factor * pair.B, code)
        stored[module] = LoraPair(tensors.widen(A, code), tensors.widen(B, code), alpha / pair.rank)
        heads = _heads(module, config) if permuted else None
        arrays[f"{names[module]}.lora_a"] = A
        arrays[f"{names[module]}.lora_b"] = B if heads is None else B[row_order(B.shape[0], heads)]
    _require_finite(stored, dtype)
    model = target.with_name(f"{target.stem}-base.gguf") if head and arrays else target if head else None
    if model is not None and base_gguf is not None:
        write_with_output(base_gguf, model, next(iter(head.values())), architecture)
    if arrays:
        with fresh_file(target) as fresh:
            write_gguf(gguf, fresh, arrays, architecture, alpha, adapter, dtype)
            _verify(gguf, fresh, arrays)
    details = {"architecture": architecture, "alpha": alpha, "model": None if model is None else str(model)}
    return Exported(
        target, "gguf", adapter.base_model if base is None else str(base), dtype, len(names), target.stat().st_size,
        _rounding(adapter.modules, stored), details,
    )  # fmt: skip


def row_order(rows: int, heads: int) -> np.ndarray:
    """Return where each row of llama.cpp's q or k comes from in transformers': within a head, halves become pairs.

    Parameters
    ----------
    rows : int
        Rows of the weight, heads times the size of a head.
    heads : int
        Query heads for q, key heads for k.

    Returns
    -------
    numpy.ndarray of shape (rows,)
        ``weight[row_order(...)]`` is the weight in llama.cpp's order.
    """
    return np.arange(rows).reshape(heads, 2, rows // heads // 2).swapaxes(1, 2).reshape(rows)


def _library() -> Any:
    with requires("gguf", "gguf", "Writing GGUF"):
        import gguf
    return gguf


def _compare(adapter: Adapter, config: Mapping[str, Any], directory: Path) -> None:
    """Hold the adapter against the base's weights, if they are at hand; they are not needed for the file."""
    try:
        weights = Weights(directory)
    except BankError:
        return
    with weights:
        check_fit(adapter, config, weights, directory, untie=True)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _architecture(config: Mapping[str, Any], directory: Path) -> tuple[str, bool]:
    named = config.get("architectures") or ["none"]
    found = ARCHITECTURES.get(str(named[0]))
    if found is None:
        raise BankError(
            f"{directory} is a {named[0]}, which is not among those whose layers are known under llama.cpp's names: "
            f"{', '.join(ARCHITECTURES)}. Export it merged, and convert that with llama.cpp's convert_hf_to_gguf.py"
        )
    return found


def _names(gguf: Any, adapter: Adapter, config: Mapping[str, Any], architecture: str, permuted: bool) -> dict[str, str]:
    """llama.cpp's tensor of every layer; those without one are refused together."""
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    known = gguf.get_tensor_name_map(
        kinds[architecture], int(config.get("num_hidden_layers") or config.get("n_layer") or 0)
    )
    hidden = config.get("hidden_size") or config.get("n_embd")
    names: dict[str, str] = {}
    owners: dict[str, str] = {}
    problems: list[str] = []
    for module, pair in adapter.modules.items():
        name = known.get_name(f"{module}.weight", try_suffixes=(".weight",))
        heads = _heads(module, config) if permuted else None
        if name is None:
            problems.append(f"{module} has no tensor in a GGUF of the architecture {architecture}")
        elif name in owners:
            problems.append(f"{module} and {owners[name]} would both be {name}")
        elif heads is not None and (heads < 1 or pair.shape[0] % (2 * heads)):
            problems.append(f"{module} has {pair.shape[0]} rows, which {heads} heads cannot share")
        elif hidden and module.endswith(ON_THE_STREAM) and pair.shape[1] != hidden:
            problems.append(f"{module} takes {pair.shape[1]} inputs; the hidden size of the base is {hidden}")
        else:
            names[module] = name
            owners[name] = module
    BankError.raise_if(
        problems,
        "the adapter cannot be written as GGUF:",
        "Export it merged instead, or name the base that it was made for with --base.",
    )
    return names


def _heads(module: str, config: Mapping[str, Any]) -> int | None:
    """Heads that the rows of a q or k belong to; None for other layers."""
    heads = int(config.get("num_attention_heads") or 0)
    if module.endswith(".q_proj"):
        return heads
    return int(config.get("num_key_value_heads") or heads) if module.endswith(".k_proj") else None


def _alpha(modules: Mapping[str, LoraPair]) -> float:
    """Return the one alpha of the file: that of all layers where they agree on it, else the largest rank."""
    alphas = {float(np.float32(pair.scaling * pair.rank)) for pair in modules.values()}
    if len(alphas) == 1 and next(iter(alphas)) != 0.0:  # llama.cpp takes 0 for "none given"
        return alphas.pop()
    return float(max((pair.rank for pair in modules.values()), default=0))


def _require_finite(stored: Mapping[str, LoraPair], dtype: str) -> None:
    bad = [name for name, pair in stored.items() if not (np.isfinite(pair.A).all() and np.isfinite(pair.B).all())]
    if bad:
        problems = [f"{name} has numbers too large for {dtype}" for name in bad]
        raise UsageError(violations(problems, "the adapter cannot be stored:", "Store it as f32 or bf16."))


def write_gguf(
    gguf: Any, path: Path, arrays: Mapping[str, np.ndarray], architecture: str, alpha: float, adapter: Adapter,
    dtype: str,
) -> None:  # fmt: skip
    """Write the file with the official writer."""
    kind = gguf.GGMLQuantizationType[dtype.upper()]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    writer.add_name(adapter.name or "adapter")
    if adapter.base_model:
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, Path(adapter.base_model).name)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        writer.add_tensor(name, array.view(np.uint8) if dtype == "bf16" else array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _verify(gguf: Any, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Read the file back with the package's reader and compare every tensor, bit by bit."""
    try:
        found = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    except (ValueError, IndexError, KeyError) as error:  # what the package makes of a file that ends too early
        raise LorametaError(
            f"the GGUF file does not read back ({error}); it was deleted. See whether the disk is full, and try again"
        ) from error
    wrong = sorted(
        name
        for name, array in arrays.items()
        if name not in found
        or tuple(found[name].shape) != array.shape[::-1]
        or found[name].data.tobytes() != np.ascontiguousarray(array).tobytes()
    )
    if wrong or len(found) != len(arrays):
        problems = [f"{name} is not what was written" for name in wrong] or ["it holds more tensors than were written"]
        raise LorametaError(
            violations(problems, "the GGUF file does not read back:", "Look to the disk, and try again.")
        )


def _rounding(exact: Mapping[str, LoraPair], stored: Mapping[str, LoraPair]) -> float:
    """‖stored − exact‖ / ‖exact‖, over all layers, without forming a single update."""
    error = total = 0.0
    for module, pair in exact.items():
        other = stored[module]
        A = np.concatenate([other.A, pair.A]).astype(np.float64)
        B = np.concatenate([other.scaling * other.B.astype(np.float64), -pair.scaling * pair.B.astype(np.float64)], 1)
        # by QR and not by Gram matrices, whose squares would hide errors below 1e-8
        error += float(np.linalg.norm(np.linalg.qr(B)[1] @ np.linalg.qr(A.T)[1].T)) ** 2
        total += pair.norm() ** 2
    return float(np.sqrt(error / total)) if total else 0.0
