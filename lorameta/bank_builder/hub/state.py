"""What is finished of a bank that is being made: a small file for each adapter, and one with its summary.

They lie in the hidden work folder of the bank and are deleted when there is a bank. What the Hub did not give leaves
no state, so that the next run asks again.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorameta.encoder import Summaries
from lorameta.errors import BankError
from lorameta.files.atomic import sha256
from lorameta.files.resumable import ResumableFolder


@dataclass
class MemberState:
    """What is known of an adapter and of its dataset.

    Attributes
    ----------
    adapter : dict or None
        The fields of its record that its files decide; None if they are not known yet.
    dataset : dict or None
        Those that its dataset decides.
    problems : list of str
        Why it cannot be in the bank.
    renamed : dict of str to str
        Repository that was asked for → what it is called by now.
    notes : list of str
        What is good to know.
    repo : str
        Of the dataset.
    """

    adapter: dict[str, Any] | None = None
    dataset: dict[str, Any] | None = None
    problems: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    repo: str = ""

    @property
    def done(self) -> bool:
        """Whether nothing is left to be asked."""
        return bool(self.problems) or (self.adapter is not None and self.dataset is not None)


class States(ResumableFolder):
    """The states of one build; several threads may use it for different adapters.

    Parameters
    ----------
    folder : Path
    key : object
        JSON-able: how the bank is made. What was made otherwise is not taken up.
    """

    def __init__(self, folder: Path, key: object) -> None:
        super().__init__(folder)
        self._key = sha256(json.dumps(key, sort_keys=True).encode())

    def files(self, id: str) -> Path:
        """Return a directory for files of an adapter."""
        return self.folder / "files" / id

    def load(self, id: str, member: object) -> MemberState:
        """Return the state of an adapter; a new one if there is none, or if it was of another `member`."""
        content = self.stored(f"{id}.json", [self._key, member])
        with contextlib.suppress(TypeError):
            return MemberState(**content or {})
        return MemberState()

    def save(self, id: str, member: object, state: MemberState) -> None:
        """Keep the state of an adapter."""
        self.store(f"{id}.json", [self._key, member], vars(state))

    def summary(self, id: str) -> Summaries | None:
        """Return the summary that was kept for an adapter; None if there is none that can be read."""
        try:
            return Summaries.load(self._summary(id))
        except BankError:
            return None

    def keep(self, id: str, found: Summaries) -> Summaries:
        """Keep a summary; returns it as it will be read: with numbers rounded to float16."""
        found.save(self._summary(id))
        return Summaries.load(self._summary(id))

    def _summary(self, id: str) -> Path:
        return self.folder / f"{id}.safetensors"
