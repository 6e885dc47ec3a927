"""Conversations: turns in the notations of OpenAI and ShareGPT, histories of pairs, as a prompt and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorameta.data.example import Example, Turn
from lorameta.data.values import DuplicatedKeys, RowError, blank, json_text, kind, names, plain, text_of
from lorameta.files.json_text import JsonError
from lorameta.files.json_text import decode as json_text_of

_ROLES = {
    "system": "System",
    "developer": "System",
    "user": "User",
    "human": "User",
    "prompter": "User",
    "assistant": "Assistant",
    "gpt": "Assistant",
    "chatgpt": "Assistant",
    "model": "Assistant",
    "bot": "Assistant",
    "function_call": "Assistant",
    "tool": "Tool",
    "function": "Tool",
    "ipython": "Tool",
    "observation": "Tool",
}
#: Keys of turns whose text is no part of what was said, and is left out.
_ASIDE = ("reasoning_content", "reasoning", "thinking", "audio", "images", "refusal")
_AS_TEXT = "pandas writes a list into a CSV as Python does; write frame.to_json(path, orient='records', lines=True)."
_KNOWN = "system, developer, user, assistant or tool (in ShareGPT human, gpt, function_call or observation)"


def instruction_prompt(instruction: str, input: str = "") -> str:
    """Return the prompt of an instruction and its input, in the form of the tasks of the banks.

    Parameters
    ----------
    instruction : str
        What to do.
    input : str, default ""
        What to do it with; a blank one is left out.

    Returns
    -------
    str
        ``"Definition: {instruction}\\n\\nInput: {input}\\n\\nOutput:"``, both stripped of surrounding whitespace.
    """
    middle = f"Input: {input.strip()}\n\n" if input.strip() else ""
    return f"Definition: {instruction.strip()}\n\n{middle}Output:"


def are_turns(value: object) -> bool:
    """Check whether a plain value looks like a conversation: a list of objects, or one object with a role."""
    if isinstance(value, Mapping):
        return "role" in value and "content" in value
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(plain(one), Mapping) for one in value)


def turns_of(value: object, name: str) -> list[Turn]:
    """Read a list of ``{role, content}`` or ``{from, value}``, also as JSON; RowError names the turn that is wrong."""
    if isinstance(value, str) and value.lstrip().startswith(("[{", "[ {", "[\n")):  # from a field of a table
        try:
            value = json_text_of(value)
        except JsonError as error:
            raise RowError(f"`{name}` is text that begins like a list and {error}", _AS_TEXT) from None
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, (list, tuple)) or not value:
        what = "an empty list" if isinstance(value, (list, tuple)) else kind(value)
        raise RowError(f"`{name}` is {what}; a list of {{role, content}} is needed")
    return [_turn(plain(turn), f"{name}[{index}]") for index, turn in enumerate(value)]


def unspoken(value: object) -> list[str]:
    """Return the keys of turns that hold something beside their content, which is left out."""
    if not isinstance(value, (list, tuple)):
        return []
    turns = [turn for turn in map(plain, value) if isinstance(turn, Mapping)]
    return [key for key in _ASIDE if any(key in turn and not blank(turn[key]) for turn in turns)]


def _turn(turn: object, where: str) -> Turn:
    if isinstance(turn, DuplicatedKeys):
        raise RowError(f"the key {turn.key!r} appears twice in `{where}`; keep one")
    if not isinstance(turn, Mapping):
        raise RowError(f"`{where}` is {kind(turn)}; an object {{role, content}} is needed")
    who, said = ("from", "value") if turn.get("role") is None and "from" in turn else ("role", "content")
    calls = plain(turn.get("tool_calls")) or plain(turn.get("function_call"))
    absent = [key for key in (who, said) if key not in turn and not (key == said and calls)]
    if absent:
        raise RowError(f"`{where}` has no {' and no '.join(absent)}; keys there: {names(turn)}")
    role = turn[who]
    speaker = _ROLES.get(role.strip().lower()) if isinstance(role, str) else None
    if speaker is None:
        found = repr(role[:60]) if isinstance(role, str) else kind(role)
        raise RowError(f"`{where}.{who}` is {found}; it must be {_KNOWN}")
    value = plain(turn.get(said))
    content = "" if calls and blank(value) else _content(value, f"{where}.{said}")
    if calls:
        content = "\n".join(filter(None, [content, *_calls(calls, where)]))
    if not content.strip():
        raise RowError(f"`{where}.{said}` is empty")
    return speaker, content


def _content(value: object, name: str) -> str:
    """Return the text of a content, which may be in parts; parts that are no text are refused."""
    if not isinstance(value, (list, tuple)):
        return text_of(value, name)
    found = []
    for index, part in enumerate(map(plain, value)):
        if isinstance(part, Mapping) and isinstance(plain(part.get("text")), str):
            part = part["text"]
        elif isinstance(part, Mapping):
            what = part.get("type")
            shown = repr(what[:40]) if isinstance(what, str) else kind(what)
            raise RowError(
                f"`{name}[{index}]` is of type {shown}; only parts with text can be used",
                "The base models here read text: leave rows with images, audio or files out.",
            )
        found.append(text_of(part, f"{name}[{index}]"))
    return "\n".join(found)


def _calls(calls: Any, where: str) -> list[str]:
    """Return each tool call as one line of JSON with its name and arguments."""
    lines = []
    for call in [calls] if isinstance(calls, Mapping) else calls if isinstance(calls, (list, tuple)) else [None]:
        call = plain(call)
        inner = call.get("function") or call if isinstance(call, Mapping) else None
        if not isinstance(inner, Mapping) or "name" not in inner:
            raise RowError(f"`{where}.tool_calls` holds a call without the name of a function")
        arguments = inner.get("arguments")
        said = arguments if isinstance(arguments, str) else json_text(arguments or {}, f"{where}.tool_calls")
        lines.append(f'{{"name": {json_text(inner["name"], where)}, "arguments": {said}}}')
    return lines


def history_of(value: object, name: str) -> list[Turn]:
    """Read the earlier turns of an Alpaca row: pairs of what was said and answered, or a list of turns."""
    if are_turns(value):
        return turns_of(value, name)
    hint = f"A history is a list of pairs [question, answer]; --ignore-column {name} leaves the column out."
    if not isinstance(value, (list, tuple)):
        raise RowError(f"`{name}` is {kind(value)}; a list of pairs is needed", hint)
    found: list[Turn] = []
    for index, pair in enumerate(map(plain, value)):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise RowError(f"`{name}[{index}]` is {kind(pair)}; a pair [question, answer] is needed", hint)
        for speaker, said in zip(("User", "Assistant"), pair, strict=True):
            if not blank(said):
                found.append((speaker, text_of(plain(said), f"{name}[{index}]")))
    return found


def answered(turns: list[Turn]) -> tuple[list[Turn], tuple[str, ...]]:
    """Split a conversation into what comes before and the answer: its last turn, if that is the assistant's."""
    if turns and turns[-1][0] == "Assistant":
        return turns[:-1], (turns[-1][1].strip(),)
    return turns, ()


def spoken(turns: list[Turn]) -> str:
    """Return the prompt of a conversation as plain text; "" if nothing was said."""
    system, dialogue = _parts(turns)
    if not (dialogue.strip() or system):
        return ""
    return instruction_prompt(system, dialogue) if system else dialogue


def preferred(value: Any) -> Example:
    """Split the preferred answer of a row without a prompt: a list of turns, or the text of a whole dialogue."""
    if not isinstance(value, str):
        turns, answers = answered(turns_of(value, "chosen"))
        prompt = spoken(turns)
        if prompt and answers:
            return Example(prompt, answers, tuple(turns))
    else:
        prompt, mark, answer = text_of(value, "chosen").rpartition("\n\nAssistant:")
        if prompt.strip() and answer.strip():
            return Example(prompt.strip() + mark, (answer.strip(),))
    raise RowError(
        "`chosen` holds no dialogue that ends with an answer, and there is no `prompt` beside it",
        "Name the column of the prompts with --input-column.",
    )


def _parts(turns: list[Turn]) -> tuple[str, str]:
    """Return the system messages, and the dialogue: one user message verbatim, a longer one line a message."""
    system = "\n\n".join(content for role, content in turns if role == "System")
    dialogue = [(role, content) for role, content in turns if role != "System"]
    if len(dialogue) == 1 and dialogue[0][0] == "User":
        return system, dialogue[0][1]
    spoken = "\n".join(f"{role}: {content}" for role, content in dialogue)
    return system, spoken + ("\nAssistant:" if dialogue and not system else "")
