"""What base and adapter answer to a few rows, for reports to show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lorameta.errors import LorametaError

if TYPE_CHECKING:
    from lorameta.ask import Answerer
    from lorameta.data import Example

#: Rows that are asked, and tokens of an answer at most.
ASKED, LONGEST_ANSWER = 6, 48
NOTE = "Rows that the adapter was made from; how good it is, only other rows can tell (lorameta evaluate)."


def side_by_side(
    answerer: Callable[[], Answerer], examples: Sequence[Example], *, on_row: Callable[[], object] = lambda: None
) -> dict[str, Any]:
    """Ask base and adapter a few of the rows.

    Parameters
    ----------
    answerer : callable
        Returns the :class:`lorameta.ask.Answerer`; an error of it becomes a sentence in the report.
    examples : sequence of Example
        Rows as they were read, without the template of a bank.
    on_row : callable
        Called after each row.

    Returns
    -------
    dict
        JSON-able: ``answers`` as those of ``lorameta evaluate``, of the models "base" and "adapter", and
        ``answers_note``; or ``no_answers``, why there are none.
    """
    try:
        model = answerer()
        step = max(1, len(examples) // ASKED)
        rows = []
        for example in model.prompts(examples[::step][:ASKED]):
            rows.append(_asked(model, example))
            on_row()
    except LorametaError as error:
        return {"no_answers": f"No answers are shown, as the base model cannot be run here: {error}"}
    return {"answers": rows, "answers_note": NOTE}


def _asked(model: Answerer, example: Example) -> dict[str, Any]:
    said = {
        name: model.answer(example.input, with_adapter=active, max_new_tokens=LONGEST_ANSWER, raw=True)
        for name, active in (("base", False), ("adapter", True))
    }
    wanted = [output.strip() for output in example.outputs]
    models = {
        name: {"answer": answer, "exact_match": float(answer in wanted) if wanted else None}
        for name, answer in said.items()
    }
    return {"prompt": example.input, "references": list(example.outputs), "models": models}
