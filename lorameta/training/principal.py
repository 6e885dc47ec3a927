"""An A for a whole bank: the directions in which the inputs of each layer vary most over generic text."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from os import PathLike
from typing import Any

import numpy as np

from lorameta.base_model.batch import EncodedExample, collate
from lorameta.base_model.load import Base
from lorameta.base_model.shape import chosen_paths, linear_shapes
from lorameta.errors import DataError
from lorameta.files.links import user_path

#: A line that separates two documents of a text file.
SEPARATOR = "<|end|>"
#: Tokens that the second moments are taken over, and those of one sequence.
TOKENS, LENGTH = 50_000, 256


def read_texts(path: str | PathLike[str]) -> list[str]:
    """Return the documents of a text file, plain or ``.gz``: separated by lines ``<|end|>``, the whole file if there is
    none.

    Raises
    ------
    DataError
        The file cannot be read, or holds no text.
    """
    file = user_path(path)
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        text = data.decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as text: {error}") from error
    found = [part.strip() for part in f"\n{text}\n".split(f"\n{SEPARATOR}\n")]
    found = [part for part in found if part]
    if not found:
        raise DataError(f"{file} holds no text")
    return found


def sequences(
    tokenizer: Any, texts: Sequence[str], *, tokens: int = TOKENS, length: int = LENGTH, seed: int = 0
) -> list[list[int]]:
    """Token ids of spans of at most `length` from documents in random order, until there are `tokens`."""
    found: list[list[int]] = []
    count = 0
    for index in random.Random(seed).sample(range(len(texts)), len(texts)):
        ids = tokenizer(texts[index][: 8 * length])["input_ids"][:length]  # the beginning of each: more documents
        if len(ids) < 8:
            continue
        found.append(ids)
        count += len(ids)
        if count >= tokens:
            break
    if not found:
        raise DataError("the calibration text holds no document of eight tokens or more")
    return found


def second_moments(
    model: Any, modules: Sequence[str], rows: Sequence[Sequence[int]], *, pad: int = 0, batch: int = 16
) -> dict[str, np.ndarray]:  # fmt: skip
    """Uncentred second moments Σ x xᵀ / n of the inputs of linear layers.

    Modules that read the same tensor (queries, keys and values; gate and up) share one array.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    modules : sequence of str
        Paths of linear layers.
    rows : sequence of token ids
    pad : int
        Id that short sequences of a batch are filled up with; its places do not count.
    batch : int
        Sequences that go through the model together.

    Returns
    -------
    dict of str to numpy.ndarray of shape (d_in, d_in), float32
    """
    import torch

    sums: dict[str, Any] = {}
    leader: dict[str, str] = {}  # module → the first that reads the same tensor
    seen: list[tuple[Any, str]] = []
    mask: Any = None

    def hook(name: str) -> Callable[[Any, tuple[Any, ...]], None]:
        def before(_: Any, inputs: tuple[Any, ...]) -> None:
            x = inputs[0]
            found = next((first for tensor, first in reversed(seen[-3:]) if tensor is x), None)
            leader[name] = found or name
            if found:
                return
            seen.append((x, name))
            del seen[:-3]
            rows = x[mask].float()
            product = rows.T @ rows
            sums[name] = sums[name] + product if name in sums else product

        return before

    layers = dict(model.named_modules())
    order = sorted(range(len(rows)), key=lambda i: (-len(rows[i]), i))
    count = 0
    with torch.no_grad(), ExitStack() as stack:
        for name in modules:
            stack.enter_context(layers[name].register_forward_pre_hook(hook(name)))
        for start in range(0, len(order), batch):
            part = [EncodedExample(list(rows[i]), 0) for i in order[start : start + batch]]
            ids, attention, mask = collate(part, pad)  # each of its tokens counts, as an answer does
            seen.clear()
            model.get_decoder()(input_ids=ids, attention_mask=attention, use_cache=False)
            count += int(mask.sum())
    arrays = {name: (total / count).numpy() for name, total in sums.items()}
    return {name: arrays[leader[name]] for name in modules}


def principal_a(
    base: Base, targets: tuple[str, ...], rank: int, texts: Sequence[str], *, tokens: int = TOKENS
) -> dict[str, np.ndarray]:  # fmt: skip
    """Return a of each target from the inputs that it gets over some texts.

    The rows are the principal directions of the uncentred second moment of the input, the largest first, each scaled
    such that a row's product with the input has the variance that it would have with an A drawn at random. Modules that
    read the same tensor get the same A.

    Parameters
    ----------
    base : Base
    targets : tuple of str
        As in :class:`LoraTraining`.
    rank : int
    texts : sequence of str
    tokens : int
        Of the texts, at most.

    Returns
    -------
    dict of str to numpy.ndarray of shape (rank, d_in), float32
    """
    rows = sequences(base.tokenizer, texts, tokens=tokens)
    modules = chosen_paths(linear_shapes(base.model), targets, base.name)
    moments = second_moments(base.model, modules, rows, pad=base.tokenizer.pad_token_id)
    made: dict[int, np.ndarray] = {}
    for moment in moments.values():
        if id(moment) not in made:
            made[id(moment)] = principal_rows(moment, rank)
    return {module: made[id(moment)] for module, moment in moments.items()}


def principal_rows(moment: np.ndarray, rank: int) -> np.ndarray:
    """Return the `rank` largest principal directions of a second moment as rows, scaled to equal variance.

    The variance is that of a row drawn as PEFT does, uniform within ±1/√d: tr(M) / 3d. Signs are such that the entry
    of largest size is positive.
    """
    from scipy.linalg import eigh

    size = len(moment)
    values, vectors = eigh(moment.astype(np.float64), subset_by_index=(size - rank, size - 1))
    values, vectors = values[::-1], vectors[:, ::-1].T
    vectors = vectors * np.where(vectors[np.arange(rank), np.abs(vectors).argmax(axis=1)] < 0, -1.0, 1.0)[:, None]
    # PEFT's A has entries uniform in ±1/√d: E‖a‖² = 1/3, and the variance of a·x is tr(M)/(3 d)
    target = np.trace(moment) / (3 * size)
    factor = np.sqrt(target / np.maximum(values, 1e-12))
    return (vectors * factor[:, None]).astype(np.float32)
