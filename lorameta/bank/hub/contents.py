"""What may be in a published bank: the names that `pull` takes and `push` sends. Anything else stays where it is.

Nothing among them is code: what a repository holds beside them, a Python file above all, is never downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from lorameta.bank.names import unsafe_path
from lorameta.bank.records import BaseRecord

#: Of the tokenizer that an index carries; the first is needed to count tokens, the others to write a prompt.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
#: What was fitted to a bank.
FOLDERS, FILES = ("tokenizer", "operators"), ("leave_one_out.json",)
#: What a base is made of. Pickled weights and code are none of it.
BASE_SUFFIXES = (".json", ".safetensors", ".model", ".txt", ".jinja")
_SUMMARIES = re.compile(r"summaries(-[0-9a-f]{16})?\.safetensors")
#: Directories of a bank that hold something else than its base.
_TAKEN = {"adapters", "shards", "operators", "tokenizer"}


def is_extra(name: str) -> bool:
    """Check whether a file is one of those that ``bank.json`` does not name but that belong to an index."""
    folder, _, file = name.rpartition("/")
    return (
        name in FILES
        or (folder == "tokenizer" and file in TOKENIZER_FILES)
        or (folder == "operators" and file.endswith(".safetensors") and not unsafe_path(name))
    )


def is_summaries(name: str) -> bool:
    """Check whether a file's name is one that lorameta gives to the summaries of a bank."""
    return _SUMMARIES.fullmatch(name) is not None


def foreign_base(base: BaseRecord) -> list[str]:
    """Return the reasons why a stranger's bank may not have such a base: a path of the machine, code, pickles."""
    from lorameta.bank.locate import hub_id

    if not base.sha256:
        if hub_id(base.model) or re.fullmatch(r"[A-Za-z0-9][\w.-]*", base.model):
            return []
        return [f"its base is {base.model!r}, which is neither in the bank nor a name on the Hub"]
    if base.model.partition("/")[0] in _TAKEN:
        return [f"its base is in {base.model!r}, where other parts of a bank are"]
    if refused := sorted(name for name in base.sha256 if PurePosixPath(name).suffix.lower() not in BASE_SUFFIXES):
        return [f"its base holds {_listed(refused)}; only {', '.join(BASE_SUFFIXES)} files are taken"]
    return []


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
