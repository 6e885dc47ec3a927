"""One forward pass over labelled rows: the states from which the answers' tokens are predicted, and their logits."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from lorameta.adapter.lora import LoraPair
from lorameta.base_model.attach import attached
from lorameta.base_model.batch import EncodedExample, collate, decoder_of
from lorameta.base_model.prefix_cache import PrefixCache, shared_prompt
from lorameta.base_model.shape import layer_stack
from lorameta.errors import UsageError
from lorameta.training.rows import micro_batches

#: Tokens of a batch, padding included, and answer positions whose logits over the whole vocabulary are formed at once.
TOKENS, POSITIONS = 2048, 256
#: Rows of the first batch, whose time gives the forecast.
FIRST = 8
#: Largest number of cached logits (positions times tokens seen in answers): 256 MB in float32.
LOGITS = 1 << 26


@dataclass(frozen=True)
class AnswerStates:
    """What the head and the last block need to know of n answer positions.

    Attributes
    ----------
    rows : numpy.ndarray of shape (n,)
        The row that a position belongs to, as an index into the rows that were given.
    gold : numpy.ndarray of shape (n,)
        Its token, as an index into `vocabulary`.
    vocabulary : numpy.ndarray of shape (v,)
        Ids of the tokens that occur in answers, the end token included; ascending.
    x : numpy.ndarray of shape (n, d)
        Input of the head: the state behind the final norm.
    logits : numpy.ndarray of shape (n, v)
        Of the tokens in `vocabulary`.
    rest, rest_max : numpy.ndarray of shape (n,)
        log Σ exp and maximum over the logits of all other tokens.
    h : numpy.ndarray of shape (n, d) or None
        Input of the final norm.
    a : numpy.ndarray of shape (n, m) or None
        Input of the last ``down_proj``.
    """

    rows: np.ndarray
    gold: np.ndarray
    vocabulary: np.ndarray
    x: np.ndarray
    logits: np.ndarray
    rest: np.ndarray
    rest_max: np.ndarray
    h: np.ndarray | None = None
    a: np.ndarray | None = None

    def of_rows(self, rows: np.ndarray) -> AnswerStates:
        """Return the positions of some rows; the vocabulary stays."""
        keep = np.isin(self.rows, rows)
        names = [
            part.name for part in fields(self) if part.name != "vocabulary" and getattr(self, part.name) is not None
        ]
        return replace(self, **{name: getattr(self, name)[keep] for name in names})


@dataclass(frozen=True)
class Passed:
    """A forward pass that was made.

    Attributes
    ----------
    states : AnswerStates
    used : numpy.ndarray
        Indices of the rows that went through the model, ascending.
    seconds, forecast : float
        What the pass took, and what all rows were forecast to take after the first batch.
    tokens : int
        That went through the model, without padding.
    """

    states: AnswerStates
    used: np.ndarray
    seconds: float
    forecast: float
    tokens: int


@dataclass(frozen=True)
class Readout:
    """The end of a decoder-only model, as far as an update in closed form may touch it.

    Attributes
    ----------
    head : torch.nn.Linear
    head_name : str
        Its path, ``lm_head`` in most models.
    scale : float
        What the model multiplies the head's output with (Granite and Cohere); 1 in most models.
    norm : torch.nn.Module or None
        The final norm; None if the last block has no ``down_proj`` that writes to the residual stream as it is.
    down : torch.nn.Linear or None
    down_name : str
    """

    head: Any
    head_name: str
    scale: float
    norm: Any = None
    down: Any = None
    down_name: str = ""


def find_readout(model: Any, row: EncodedExample) -> Readout:
    """Find the head, the final norm and the last ``down_proj`` of a model, and test on one row that they are linear.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    row : EncodedExample
        Any short row.

    Raises
    ------
    UsageError
        The logits are no multiple of what the head gives (a soft cap, as in Gemma 2), or there is no head.
    """
    import torch

    names = {id(module): name for name, module in model.named_modules()}
    head, decoder = model.get_output_embeddings(), decoder_of(model)
    if head is None or not isinstance(head, torch.nn.Linear):
        raise UsageError(f"{type(model).__name__} has no linear language-model head, so that no readout can be fitted")
    ids = torch.tensor([row.ids[:64]])
    seen: dict[str, Any] = {}
    layers = getattr(decoder, layer_stack(decoder) or "", None)
    down = getattr(getattr(layers[-1], "mlp", None), "down_proj", None) if layers is not None else None
    norm = getattr(decoder, "norm", None)
    with ExitStack() as stack, torch.inference_mode():
        watch = lambda layer, hook: stack.enter_context(layer.register_forward_hook(hook))  # noqa: E731
        watch(head, lambda _, inputs, output: seen.update(x=inputs[0], logits=output))
        if norm is not None:
            watch(norm, lambda _, inputs, output: seen.update(h=inputs[0], normed=output))
        logits = model(input_ids=ids).logits
        before = dict(seen)
        if isinstance(down, torch.nn.Linear) and norm is not None:
            shift = before["h"].abs().mean() * torch.sign(before["h"])
            watch(down, lambda _, inputs, output: output + shift)
            model(input_ids=ids)
    own = before["logits"].float()
    scale = float((logits.float() * own).sum() / (own * own).sum())
    if not torch.allclose(logits.float(), scale * own, rtol=1e-2, atol=1e-2 * float(own.abs().mean())):
        raise UsageError(
            f"{type(model).__name__} changes its logits behind the head (a soft cap), so that no readout can be fitted"
        )
    scale = 1.0 if abs(scale - 1) < 1e-4 else scale
    found = Readout(head, names[id(head)], scale)
    if "h" not in before or not isinstance(down, torch.nn.Linear) or not torch.equal(before["normed"], before["x"]):
        return found
    moved = (seen["h"] - before["h"]).float()
    if float((moved - shift.float()).norm()) > 0.05 * float(shift.float().norm()):  # bfloat16 rounds by some 2 %
        return found
    return Readout(head, found.head_name, scale, norm, down, names[id(down)])


def collect(
    model: Any,
    readout: Readout,
    modules: Mapping[str, LoraPair],
    rows: Sequence[EncodedExample],
    *,
    pad: int,
    budget: float | None = None,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> Passed:
    """Run the base with an adapter over rows, each once, and keep what :class:`AnswerStates` names.

    What the rows' prompts have in common at their start, such as the instruction, goes through the model once.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    readout : Readout
    modules : mapping of str to LoraPair
        The adapter; it is added to the layers' outputs and leaves the weights alone.
    rows : sequence of EncodedExample
    pad : int
        Id of the padding token.
    budget : float, optional
        Seconds. If the forecast after the first batch is longer, rows are left out, by `seed`.
    seed : int
    progress : callable, optional
        Called with the number of rows after each batch.
    """
    import torch

    beginning = shared_prompt(rows)
    shared = len(beginning)
    lengths = [len(row.ids) - shared for row in rows]
    order = [int(index) for index in np.random.default_rng(seed).permutation(len(rows))]
    vocabulary = np.unique(np.concatenate([np.array(row.ids[row.answer_start :]) for row in rows]))
    answers = np.cumsum([len(rows[index].ids) - rows[index].answer_start for index in order])
    order = order[: max(1, int(np.searchsorted(answers, max(LOGITS // len(vocabulary), 1), side="right")))]
    start = time.perf_counter()
    done: dict[int, dict[str, np.ndarray]] = {}
    forecast = 0.0
    with torch.inference_mode(), attached(model, modules):
        prefix = PrefixCache(model, beginning) if beginning else None
        began = time.perf_counter()

        def run(chosen: Sequence[int]) -> None:
            for batch in micro_batches(lengths, chosen, rows=None, tokens=TOKENS):
                done.update(_batch(model, readout, rows, batch, vocabulary, pad, prefix))
                if progress is not None:
                    progress(len(batch))

        run(order[:FIRST])
        rate = (time.perf_counter() - began) / sum(lengths[index] for index in order[:FIRST])
        needed = rate * np.cumsum([lengths[index] for index in order])
        forecast = float(needed[-1])
        if budget is not None:
            order = order[: max(FIRST, int(np.searchsorted(needed, budget - (began - start), side="right")))]
        run(order[FIRST:])
    used = np.sort(np.array(order))
    whole = {name: np.concatenate([done[index][name] for index in used]) for name in done[int(used[0])]}
    counts = [len(done[index]["gold"]) for index in used]
    states = AnswerStates(rows=np.repeat(used, counts), vocabulary=vocabulary, **whole)
    tokens = shared + sum(lengths[index] for index in used)
    return Passed(states, used, time.perf_counter() - start, forecast, tokens)


def _batch(
    model: Any, readout: Readout, rows: Sequence[EncodedExample], batch: Sequence[int], vocabulary: np.ndarray,
    pad: int, prefix: PrefixCache | None,
) -> dict[int, dict[str, np.ndarray]]:  # fmt: skip
    import torch

    ids, attention, answers = collate([rows[index] for index in batch], pad)
    shared = 0 if prefix is None else len(prefix.prefix)
    wanted = answers[:, shared + 1 :]  # the last shared token predicts no answer token
    given: dict[str, Any] = {"input_ids": ids[:, shared:], "attention_mask": attention, "use_cache": False}
    if prefix is not None:
        given["use_cache"] = True
        given["attention_mask"], given["past_key_values"] = prefix.behind(attention[:, shared:])
        given["position_ids"] = torch.arange(shared, ids.shape[1]).expand(len(batch), -1)
    kept: dict[str, Any] = {}
    with ExitStack() as stack:
        for name, layer in (("h", readout.norm), ("a", readout.down)):
            if layer is not None:
                keep = lambda _, inputs, output, name=name: kept.update({name: inputs[0][:, :-1][wanted]})  # noqa: E731
                stack.enter_context(layer.register_forward_hook(keep))
        kept["x"] = decoder_of(model)(**given).last_hidden_state[:, :-1][wanted]
    gold = ids[:, shared + 1 :][wanted].numpy()
    found = vocabulary_logits(readout, kept["x"], vocabulary)
    found |= {name: part.float().numpy() for name, part in kept.items()}
    found["gold"] = np.searchsorted(vocabulary, gold)
    ends = np.cumsum(wanted.sum(1).numpy())[:-1]
    split = {name: np.split(part, ends) for name, part in found.items()}
    return {index: {name: split[name][row] for name in split} for row, index in enumerate(batch)}


def vocabulary_logits(readout: Readout, x: Any, vocabulary: np.ndarray) -> dict[str, np.ndarray]:
    """Return what :class:`AnswerStates` keeps of the logits at some states: those of `vocabulary`, and two of the rest.

    Parameters
    ----------
    readout : Readout
    x : torch.Tensor of shape (n, d)
        In the dtype of the model.
    vocabulary : numpy.ndarray
    """
    import torch

    tokens = torch.from_numpy(vocabulary)
    parts: dict[str, list[Any]] = {"logits": [], "rest": [], "rest_max": []}
    with torch.inference_mode():
        for start in range(0, len(x), POSITIONS):
            logits = readout.head(x[start : start + POSITIONS]).float() * readout.scale
            parts["logits"].append(logits[:, tokens])
            logits[:, tokens] = -torch.inf
            parts["rest"].append(logits.logsumexp(1))
            parts["rest_max"].append(logits.max(1).values)
    return {name: torch.cat(part).numpy() for name, part in parts.items()}
