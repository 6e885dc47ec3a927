"""The tokenizer of a base on the Hub, which an index carries along: new datasets are counted with it."""

from __future__ import annotations

from pathlib import Path

from lorameta.bank.hub.client import Client, Trouble
from lorameta.bank.hub.contents import TOKENIZER_FILES
from lorameta.bank.locate import hub_id
from lorameta.bank_builder.copying import copy_file
from lorameta.errors import BankError, UsageError
from lorameta.files.links import file_of, make_folder, user_path

#: What is carried along, if it is there; only the first is needed.
FILES = TOKENIZER_FILES


def find_tokenizer(client: Client, place: str, folder: Path, revision: str | None = None) -> Path:
    """Put the files of a tokenizer into ``folder/tokenizer``; what is there already is not fetched again.

    Parameters
    ----------
    client : Client
    place : str
        A directory, or a repository on the Hub.
    folder : Path
    revision : str, optional
        Of a repository.

    Raises
    ------
    BankError, UsageError, Trouble
        There is no ``tokenizer.json``, or the Hub does not give it.
    """
    target = folder / "tokenizer"
    local = user_path(place)
    if local.is_dir():
        if not (local / FILES[0]).is_file():
            raise UsageError(f"--tokenizer: there is no {local / FILES[0]}")
        found = {name: file_of(local, name) for name in FILES if (local / name).is_file()}
    else:
        if hub_id(place) is None:
            raise UsageError(f"--tokenizer: there is no directory {place}, and it is no id of the Hub either")
        found = _download(client, place, folder / "files" / "tokenizer", revision)
    make_folder(target)
    for name, path in found.items():
        copy_file(path, target / name)
    return target


def _download(client: Client, repo: str, folder: Path, revision: str | None) -> dict[str, Path]:
    try:
        info = client.model(repo, revision, files=False)
        names = {file.rfilename for file in info.siblings or []}
        if FILES[0] not in names:
            raise BankError(
                f"{repo} has no {FILES[0]}; give a directory or another repository that has it, with --tokenizer"
            )
        wanted = [name for name in FILES if name in names]
        return {name: client.download(info.id, name, folder, revision=info.sha) for name in wanted}
    except Trouble as trouble:
        remedy = "or take the tokenizer from elsewhere, with --tokenizer"
        raise Trouble(f"the tokenizer of {trouble}; {remedy}", trouble.kind, trouble.wait) from trouble
