"""Options of the command line that are the fields of a dataclass of settings; their text is the field's own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import Field, fields
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import typer

Verb = TypeVar("Verb", bound=Callable[..., None])


def in_place_of(
    name: str, options: Sequence[inspect.Parameter], gathered: Callable[[dict[str, Any]], Any]
) -> Callable[[Verb], Verb]:
    """Give a verb some options in place of its parameter `name`, which is handed what `gathered` makes of them."""

    def decorate(verb: Verb) -> Verb:
        signature = inspect.signature(verb, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            parameters += options if parameter.name == name else [parameter]
        parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]

        @functools.wraps(verb)
        def call(**given: Any) -> None:
            values = {option.name: given.pop(option.name) for option in options}
            verb(**given, **{name: gathered(values)})

        call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return call  # type: ignore[return-value]

    return decorate


def option(name: str, kind: Any, text: Any, default: Any = None) -> inspect.Parameter:
    """Return an option for :func:`in_place_of`: `text` is what :func:`typer.Option` made."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, text])


def options_of(
    settings: type, name: str, *, only: tuple[str, ...] = (), prefix: str = "", without: tuple[str, ...] = (),
    **defaults: Any,
) -> Callable[[Verb], Verb]:  # fmt: skip
    """Give a verb an option for each field of a settings class, in place of one of its parameters.

    Parameters
    ----------
    settings : type
        A dataclass whose fields come from :func:`lorameta.training.fields.setting`.
    name : str
        Parameter of the verb that is handed the settings.
    only, without : tuple of str
        Fields that become options; all by default.
    prefix : str
        Of the options' names. Where there is one and no option of it was given, the verb is handed None.
    **defaults
        Where the default on the command line is another than the field's.
    """
    hints = get_type_hints(settings)
    chosen = [one for one in fields(settings) if one.name not in without and (not only or one.name in only)]

    def gathered(given: dict[str, Any]) -> Any:
        values = {one.name: _value(hints[one.name], given[_spelled(one, prefix)]) for one in chosen}
        if prefix and all(values[one.name] == defaults.get(one.name, one.default) for one in chosen):
            return None
        return settings(**values)

    return in_place_of(name, [_option(one, hints[one.name], prefix, defaults) for one in chosen], gathered)


def _option(one: Field[Any], hint: Any, prefix: str, defaults: dict[str, Any]) -> inspect.Parameter:
    kind = next((part for part in get_args(hint) if part is not type(None)), hint) if _optional(hint) else hint
    default = defaults.get(one.name, one.default)
    if _is_names(kind):
        kind, default = str, None if default is None else ",".join(default)
    flags = one.metadata["flag"] or f"--{prefix}{one.name}".replace("_", "-")
    words = f"Then refine on DATA. {one.metadata['help']}" if prefix else one.metadata["help"]
    text = typer.Option(flags, metavar=one.metadata["metavar"], help=words, show_default=default is not None)
    return option(_spelled(one, prefix), kind | None if default is None else kind, text, default)


def _spelled(one: Field[Any], prefix: str) -> str:
    return f"{prefix}{one.name}".replace("-", "_")


def _value(hint: Any, given: Any) -> Any:
    """Return what was typed, as the settings class takes it: names are separated by commas."""
    kinds = get_args(hint) if _optional(hint) else (hint,)
    if isinstance(given, str) and any(_is_names(kind) for kind in kinds):
        return tuple(name.strip() for name in given.split(",") if name.strip())
    return given


def _optional(hint: Any) -> bool:
    return type(None) in get_args(hint)


def _is_names(kind: Any) -> bool:
    return get_args(kind) == (str, ...)
