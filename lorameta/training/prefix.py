"""`Prefix`: what the frozen layers below the adapted ones make of a row, computed once and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lorameta.base_model.batch import EncodedExample, answer_losses, collate, decoder_of
from lorameta.base_model.shape import layer_stack
from lorameta.errors import UsageError
from lorameta.training.measure import shallow

#: How far the losses of a row may be apart with and without kept states, in nats.
_CLOSE = 1e-3


def in_top_layers(model: Any, paths: Sequence[str], count: int, base: str) -> list[str]:
    """Return those of `paths` that lie in the `count` uppermost layers of a model.

    Raises
    ------
    UsageError
        It has fewer layers, or none of the paths is there.
    """
    decoder = decoder_of(model)
    layers = getattr(decoder, layer_stack(decoder) or "", [])
    if count > len(layers):
        raise UsageError(f"{base} has {len(layers)} layers; {count} of them cannot be adapted (--top-layers)")
    top = {id(module) for layer in layers[len(layers) - count :] for module in layer.modules()}
    modules = dict(model.named_modules())
    if not (found := [path for path in paths if id(modules[path]) in top]):
        raise UsageError(f"none of the layers to adapt is among the {count} uppermost of {base}")
    return found


def frozen_layers(model: Any) -> int:
    """Return how many layers lie below the first one that is trained; 0 if the embedding is trained."""
    decoder = decoder_of(model)
    if any(p.requires_grad for p in model.get_input_embeddings().parameters()):
        return 0
    layers = getattr(decoder, layer_stack(decoder) or "", [])
    trained = [i for i, layer in enumerate(layers) if any(p.requires_grad for p in layer.parameters())]
    return min(trained, default=0)


class Prefix:
    """The states of rows behind the lowest layers of a model.

    A row's states come from that row alone, at its first use, so that they are the same whatever else is in the batch:
    a training that is resumed sees the same numbers.

    Parameters
    ----------
    model : peft.PeftModel
    layers : int
        That are frozen, at least 1.
    """

    def __init__(self, model: Any, layers: int) -> None:
        self.layers = layers
        self._model = model
        decoder = decoder_of(model)
        self._stack = list(getattr(decoder, layer_stack(decoder) or ""))[:layers]
        self._states: dict[int, tuple[EncodedExample, Any]] = {}
        self._given: Any = None
        self._recording = False
        self._as_tuple = False

    @contextmanager
    def mounted(self) -> Iterator[Prefix]:
        """The model with these layers answering from memory; every pass must be announced with :meth:`give`."""
        for index, layer in enumerate(self._stack):
            layer.forward = self._instead(layer.forward, index == self.layers - 1)
        try:
            yield self
        finally:
            for layer in self._stack:
                del layer.forward
            self._states.clear()
            self._given = None

    def give(self, rows: Sequence[EncodedExample]) -> None:
        """Lay the states of `rows` ready for a pass over them, collated in this order."""
        from torch.nn.utils.rnn import pad_sequence

        self._given = pad_sequence([self._of(row) for row in rows], batch_first=True)

    def agrees(self, row: EncodedExample, pad: int) -> bool:
        """Check whether a row's losses are the same from its kept states, and the states the same each time.

        Not so if the frozen part has dropout, or if the upper layers look at more than the states below them.
        """
        import torch

        if self._drops():
            return False

        training = self._model.training
        batch = collate([row], pad)
        try:
            with torch.no_grad():
                self._model.eval()
                plain = answer_losses(self._model, *batch)
                with self.mounted():
                    self.give([row])
                    kept = answer_losses(self._model, *batch)
        except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError):
            return False
        finally:
            self._model.train(training)
        return bool((plain - kept).abs().max() <= _CLOSE * (1 + plain.abs().max()))

    def _drops(self) -> bool:
        """Check whether chance decides in the embedding or in these layers while training."""
        import torch

        decoder = decoder_of(self._model)
        layers = getattr(decoder, layer_stack(decoder) or "")
        above = {id(module) for layer in layers[self.layers :] for module in layer.modules()}
        below = [module for module in decoder.modules() if id(module) not in above]
        return any(
            (isinstance(module, torch.nn.Dropout) and module.p > 0)
            or any("drop" in name and isinstance(rate, float) and rate > 0 for name, rate in vars(module).items())
            for module in below
        )

    def _of(self, row: EncodedExample) -> Any:
        found = self._states.get(id(row))
        if found is None:
            found = self._states[id(row)] = (row, self._record(row))
        return found[1]

    def _record(self, row: EncodedExample) -> Any:
        import torch

        ids, attention, _ = collate([row], 0)
        self._recording = True
        try:
            with torch.no_grad(), shallow(self._model, self.layers):
                decoder_of(self._model)(input_ids=ids, attention_mask=attention)
        finally:
            self._recording = False
        return self._given[0]

    def _instead(self, original: Callable[..., Any], last: bool) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            if self._recording:
                out = original(*args, **kwargs)
                if last:
                    self._as_tuple = isinstance(out, tuple)
                    self._given = out[0] if self._as_tuple else out
                return out
            out = self._given if last else args[0] if args else kwargs["hidden_states"]
            return (out,) if self._as_tuple else out

        return forward
