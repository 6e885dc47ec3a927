"""How weights are to be found: an operator with its temperature, top-k and options, checked before any work is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lorameta.errors import UsageError
from lorameta.operator import OPERATORS, Operator


@dataclass(frozen=True)
class Choice:
    """A checked choice.

    Attributes
    ----------
    operator : Operator
    temperature : float or None
        None where the operator has none.
    top_k : int or None
    options : dict
        All of the operator's own, defaults included.
    """

    operator: Operator
    temperature: float | None = None
    top_k: int | None = None
    options: dict[str, Any] = field(default_factory=dict)


def choose(
    operator: str,
    *,
    temperature: float | None = None,
    top_k: int | None = None,
    options: Mapping[str, Any] | None = None,
    defaults: tuple[float | None, int | None] = (None, None),
) -> Choice:
    """Check what was asked for.

    Parameters
    ----------
    operator : str
        A key of ``OPERATORS``.
    temperature : float, optional
        None: it was not given.
    top_k : int, optional
    options : mapping, optional
    defaults : tuple
        Temperature (None: the operator's own) and top-k of callers who did not choose; operators without them ignore
        these.

    Raises
    ------
    UsageError
        An unknown operator or option, a value that cannot work, or an option that would be ignored; all of them.

    Examples
    --------
    >>> choose("trial", options={"rows": 8}).options
    {'candidates': 20, 'rows': 8, 'shortlist': 'nearest'}
    """
    if operator not in OPERATORS:
        raise UsageError(f"unknown operator {operator!r}; there are {', '.join(OPERATORS)}")
    known, given = OPERATORS[operator], dict(options or {})
    found = []
    if temperature is not None and known.temperature is None:
        found.append(f"the operator {operator!r} has no temperature; leave it out")
    elif temperature is not None and not temperature >= 0:
        found.append(f"the temperature must be between 0 (nearest) and inf (uniform); got {temperature}")
    if top_k not in (None, defaults[1]) and not known.top_k:
        found.append(
            f"the weights of {operator!r} hold together as a whole, so top_k cannot cut them; to let K adapters alone "
            "take part, set its option candidates"
        )
    for name in sorted(set(given) - set(known.options)):
        others = f"it has {', '.join(known.options)}" if known.options else "it has none"
        found.append(f"the operator {operator!r} has no option {name!r}; {others}")
    for name in sorted(set(given) & set(known.options)):
        problem = known.options[name].problem(name, given[name])
        if problem is not None:
            found.append(problem)
    if found:
        raise UsageError("; ".join(found))
    if known.temperature is None or temperature is not None:
        used = temperature
    else:
        used = known.temperature if defaults[0] is None else defaults[0]
    merged = {name: given.get(name, option.default) for name, option in known.options.items()}
    return Choice(known, used, top_k if known.top_k else None, merged)
