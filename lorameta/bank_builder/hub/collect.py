"""Which adapters are to become a bank: all of an author, a collection on the Hub, or a list in a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any

from lorameta.adapter.peft_format import CONFIG
from lorameta.bank.hub.client import Client
from lorameta.bank.hub.presets import Collection, Member
from lorameta.bank.locate import hub_id
from lorameta.bank.names import MAX_ID, unsafe_ids
from lorameta.errors import BankError, UsageError
from lorameta.files.links import user_path

#: Columns of a list; only `adapter` is needed.
COLUMNS = (
    "adapter", "id", "dataset", "config", "split", "input_column", "output_column",
    "task", "family", "licence", "description",
)  # fmt: skip


def of_author(client: Client, author: str) -> Collection:
    """Return all models of an author that are PEFT adapters; their cards name the datasets.

    Raises
    ------
    UsageError
        There are none.
    """
    found = client.ask(author, lambda: list(client.api.list_models(author=author, full=True)))
    names = [one.id for one in found if any(file.rfilename == CONFIG for file in one.siblings or [])]
    if not names:
        raise UsageError(f"the author {author!r} has no PEFT adapter on the Hub that you can see")
    return Collection(author, {"author": author}, members(names))


def of_collection(client: Client, slug: str) -> Collection:
    """Return the models of a collection; their cards name the datasets. UsageError if there are none."""
    found = client.ask(f"the collection {slug}", lambda: client.api.get_collection(slug))
    names = [item.item_id for item in found.items if item.item_type == "model"]
    if not names:
        raise UsageError(f"the collection {slug!r} holds no model")
    return Collection(slug.rpartition("/")[2], {"collection": slug}, members(names))


def of_list(path: str | PathLike[str]) -> Collection:
    """Return the adapters of a table (JSONL, JSON, CSV, TSV, Parquet) with the columns of `COLUMNS`.

    Raises
    ------
    DataError
        It cannot be read, or rows are wrong; all of them.
    """
    from lorameta.data.files import read_file
    from lorameta.data.problems import Problems

    file = user_path(path)
    bad = Problems(str(file), f"{file}:")
    entries: list[dict[str, str]] = []
    for line, row in read_file(file, "utf-8", bad):
        if not isinstance(row, Mapping) or not row.get("adapter"):
            bad.add(line, "has no adapter", f"A list has the columns {', '.join(COLUMNS)}; only adapter is needed.")
            continue
        entry = {str(key): str(value) for key, value in row.items() if value not in (None, "")}
        if unknown := sorted(set(entry) - set(COLUMNS)):
            bad.add(line, f"has the unknown column {', '.join(unknown)}", f"There are {', '.join(COLUMNS)}.")
        for column in ("adapter", "dataset"):
            if column in entry and hub_id(entry[column]) is None:
                bad.add(line, f"{column} {entry[column]!r} is no id of the Hub", "They look like author/name.")
        entries.append(entry)
    bad.raise_if_any()
    if not entries:
        raise UsageError(f"{file} lists no adapter")
    names = _names([entry["adapter"] for entry in entries])
    found = []
    for name, entry in zip(names, entries, strict=True):
        facts: dict[str, Any] = {
            key: entry[key] for key in ("task", "family", "licence", "description") if key in entry
        }
        where = {key: entry[key] for key in ("dataset", "config", "split", "input_column", "output_column")
                 if key in entry}  # fmt: skip
        found.append(Member(entry.get("id", name), entry["adapter"], **where, facts={"task": name, **facts}))
    return Collection(file.stem, {"list": file.name}, _checked(found))


def members(adapters: Iterable[str]) -> tuple[Member, ...]:
    """Members of which nothing is known but the repositories; their names become ids."""
    repos = sorted(set(adapters))
    return _checked([Member(name, repo, facts={"task": name}) for name, repo in zip(_names(repos), repos, strict=True)])


def _names(repos: list[str]) -> list[str]:
    """Return the last part of each repository's id; the whole where two would be the same."""
    last = Counter(repo.rpartition("/")[2].lower() for repo in repos)
    return [
        (repo.replace("/", "--") if last[repo.rpartition("/")[2].lower()] > 1 else repo.rpartition("/")[2])[:MAX_ID]
        for repo in repos
    ]


def _checked(found: list[Member]) -> tuple[Member, ...]:
    BankError.raise_if(
        unsafe_ids([member.id for member in found]), "these adapters cannot become a bank:", "Give them ids in a list."
    )
    return tuple(sorted(found, key=lambda member: member.id))


def dataset_of(info: Any) -> tuple[str, str]:
    """Return the dataset that an adapter's card names, or "" and why there is none."""
    named = {tag.removeprefix("dataset:") for tag in info.tags or [] if tag.startswith("dataset:")}
    usable = sorted(name for name in named if hub_id(name))
    if len(usable) == 1:
        return usable[0], ""
    what = f"names {len(usable)} datasets, {', '.join(usable)}" if usable else "names no dataset of the Hub"
    return "", f"its card {what}; give a list with the columns adapter and dataset (--hub-list)"
