"""What was fitted to a bank or measured on it, and whether it still belongs to the adapters that are in it.

The files themselves are those of `lorameta.mixing.neural_fit` and `lorameta.mixing.forecast`, which refuse what belongs
to other adapters; here only the hash of the bank is read from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorameta.bank.bank import AdapterBank
from lorameta.errors import BankError
from lorameta.files import json_text
from lorameta.files.tensor_file import TensorFile


@dataclass(frozen=True)
class Fitted:
    """A file that belongs to certain adapters.

    Attributes
    ----------
    file : str
        Path in the bank.
    name : str
        For people, e.g. "neural (js)".
    valid : bool
        Whether the bank still has just these adapters.
    remedy : str
        The command, or what else to do, if not.
    """

    file: str
    name: str
    valid: bool
    remedy: str


def fitted(bank: AdapterBank) -> list[Fitted]:
    """Return the fitted operators of a whole bank and its leave-one-out record, sorted by file."""
    found = []
    for path in sorted((bank.path / "operators").glob("*.safetensors")):
        header = _header_of_operator(path)
        operator, distance = str(header.get("operator", "?")), str(header.get("distance", "?"))
        how = f"--distance {distance}" if operator == "neural" else f"--operator {operator} --tasks FOLDER"
        remedy = f"fit it again with: lorameta bank fit {how}"
        valid = header.get("content_hash") == bank.content_hash
        found.append(Fitted(f"operators/{path.name}", f"{operator} ({distance})", valid, remedy))
    path = bank.path / "leave_one_out.json"
    if path.is_file():
        valid = (json_text.read_object(path) or {}).get("bank") == bank.content_hash
        found.append(Fitted(path.name, "leave-one-out record", valid, "measure it again, or delete it"))
    return found


def _header_of_operator(path: Path) -> dict[str, Any]:
    try:
        with TensorFile(path) as file:
            header = json_text.decode(file.metadata.get("lorameta", "{}"))
    except (BankError, ValueError):
        return {}
    return header if isinstance(header, dict) else {}
