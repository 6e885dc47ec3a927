"""Options of the command line that are the fields of a dataclass of settings; their text is the field's own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import Field, fields
from typing import Annotated, Any, get_args, get_type_hints

import typer


def options_of(
    settings: type, name: str, *, only: tuple[str, ...] = (), prefix: str = "", without: tuple[str, ...] = (),
    **defaults: Any,
) -> Callable[[Callable[..., None]], Callable[..., None]]:  # fmt: skip
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

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(verb, eval_str=True)
        parameters = []
        for parameter in signature.parameters.values():
            wanted = [_option(one, hints[one.name], prefix, defaults) for one in chosen]
            parameters += wanted if parameter.name == name else [parameter]

        @functools.wraps(verb)
        def call(**given: Any) -> None:
            values = {one.name: _value(hints[one.name], given.pop(_spelled(one, prefix))) for one in chosen}
            if prefix and all(values[one.name] == defaults.get(one.name, one.default) for one in chosen):
                verb(**given, **{name: None})
            else:
                verb(**given, **{name: settings(**values)})

        keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        call.__signature__ = signature.replace(parameters=keyword)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in keyword}
        return call

    return decorate


def _option(one: Field[Any], hint: Any, prefix: str, defaults: dict[str, Any]) -> inspect.Parameter:
    kind = next((part for part in get_args(hint) if part is not type(None)), hint) if _optional(hint) else hint
    default = defaults.get(one.name, one.default)
    if _is_names(kind):
        kind, default = str, None if default is None else ",".join(default)
    flags = one.metadata["flag"] or f"--{prefix}{one.name}".replace("_", "-")
    words = f"Then refine on DATA. {one.metadata['help']}" if prefix else one.metadata["help"]
    text = typer.Option(flags, metavar=one.metadata["metavar"], help=words, show_default=default is not None)
    annotation = Annotated[kind | None if default is None else kind, text]  # type: ignore[valid-type]
    return inspect.Parameter(
        _spelled(one, prefix), inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _spelled(one: Field[Any], prefix: str) -> str:
    return f"{prefix}{one.name}".replace("-", "_")


def _value(hint: Any, given: Any) -> Any:
    """What was typed, as the settings class takes it: names are separated by commas."""
    kinds = get_args(hint) if _optional(hint) else (hint,)
    if isinstance(given, str) and any(_is_names(kind) for kind in kinds):
        return tuple(name.strip() for name in given.split(",") if name.strip())
    return given


def _optional(hint: Any) -> bool:
    return type(None) in get_args(hint)


def _is_names(kind: Any) -> bool:
    return get_args(kind) == (str, ...)
