"""Collections of adapters on the Hub whose datasets are known: by name, and what a member of a collection is."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorameta.errors import UsageError

#: Name of a preset → file beside this module.
PRESETS = {"lots-of-loras": "lots_of_loras.json"}


@dataclass(frozen=True)
class Member:
    """An adapter on the Hub, and the dataset it was trained on.

    Attributes
    ----------
    id : str
        In the bank.
    adapter : str
        Its repository, ``author/name``.
    dataset : str
        The repository of its rows; "" if the adapter's card has to tell.
    config, split : str
        Which rows of the dataset.
    input_column, output_column : str, optional
        As in :func:`lorameta.data.load_examples`.
    facts : dict
        Fields of its :class:`~lorameta.bank.records.AdapterRecord`: task, family, licence, description.
    """

    id: str
    adapter: str
    dataset: str = ""
    config: str = ""
    split: str = "train"
    input_column: str | None = None
    output_column: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Collection:
    """Adapters that are to become a bank.

    Attributes
    ----------
    name : str
        Of the bank.
    origin : dict
        What it was made from, e.g. ``{"preset": "lots-of-loras"}``; goes into ``bank.json``.
    members : tuple of Member
    base_model : str
        Hub id of their base; "" if it is not known.
    """

    name: str
    origin: dict[str, str]
    members: tuple[Member, ...]
    base_model: str = ""


def preset(name: str) -> Collection:
    """Return a collection that lorameta knows by name.

    Lots-of-LoRAs: 502 adapters of Mistral-7B-Instruct-v0.2, one for each of 502 tasks of Super-Natural Instructions
    (Brüel-Gabrielsson et al., arXiv 2407.00066), which are the bank of arXiv 2507.01806. Their ids are those of the
    datasets; the family is the corpus that the task's name begins with.

    Raises
    ------
    UsageError
        There is no such preset.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(PRESETS)}"
        raise UsageError(f"there is no preset {name!r}; {hint}")
    content = json.loads(Path(__file__).with_name(PRESETS[name]).read_text(encoding="utf-8"))
    members = []
    for one in content["adapters"]:
        task = one["dataset"].rpartition("/")[2]
        facts = {"task": task, "family": task.split("_")[1]}
        members.append(Member(task, one["adapter"], one["dataset"], facts=facts))
    return Collection(name, {"preset": name}, tuple(members), content["base_model"])
