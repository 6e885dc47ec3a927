"""Datasets of the Hugging Face Hub: a name in, the first rows and the commit that they are from out."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lorameta.errors import DataError, requires

#: Rows that are read of a dataset at most, unless another number is asked for.
MAX_ROWS = 10_000
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class HubDataset:
    """Which rows of the Hub are wanted.

    Attributes
    ----------
    name : str
        ``author/name``.
    config, split : str or None
        By default the only one, or the one that is called "default" and "train".
    revision : str or None
        A commit, branch or tag; the newest commit by default.
    max_rows : int
        The first rows are taken.
    """

    name: str
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    max_rows: int = MAX_ROWS

    def load(self) -> tuple[Any, dict[str, Any]]:
        """Read the rows, streamed, so that no more is fetched than is taken.

        Returns
        -------
        rows : datasets.Dataset
        source : dict
            ``repo``, ``commit``, ``config``, ``split`` and ``rows``: what the rows can be had by again.

        Raises
        ------
        DataError
            There is no such dataset, configuration, split or revision, or it cannot be read; and what there is.
        MissingExtraError
            `datasets` is not installed.
        """
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
            raise DataError(
                f"there is no file {self.name}, and as a dataset of the Hub it cannot be read: this run is offline "
                "(--offline, HF_HUB_OFFLINE)"
            )
        with requires(None, "hub", f"Reading {self.name} of the Hub"):
            import datasets
            from huggingface_hub import HfApi
        datasets.disable_progress_bars()
        datasets.logging.set_verbosity_error()
        try:
            commit = str(HfApi().dataset_info(self.name, revision=self.revision, timeout=30).sha)
            config = self._one(datasets.get_dataset_config_names(self.name, revision=commit), "config", "default")
            splits = datasets.get_dataset_split_names(self.name, config, revision=commit)
            split = self._one(splits, "split", "train")
            stream = datasets.load_dataset(self.name, config, split=split, revision=commit, streaming=True)
            rows = list(islice(stream, self.max_rows))
            found = datasets.Dataset.from_list(rows, features=stream.features)
        except DataError:
            raise
        except Exception as error:  # `datasets` raises almost anything, of the network and of the files alike
            raise DataError(
                f"there is no file {self.name}, and the Hub's dataset of that name cannot be read: {self._why(error)}"
            ) from error
        return found, {"repo": self.name, "commit": commit, "config": config, "split": split, "rows": len(rows)}

    def _one(self, names: list[str], what: str, usual: str) -> str:
        """Return the configuration or split that is wanted, or the one that needs no naming."""
        wanted = getattr(self, what)
        if wanted is not None and wanted in names:
            return str(wanted)
        if wanted is None and (len(names) == 1 or usual in names):
            return names[0] if len(names) == 1 else usual
        there = f"it has {', '.join(names[:20])}" + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        if wanted is None:
            raise DataError(f"the dataset {self.name} has several of its --{what}: name one of them; {there}")
        raise DataError(f"the dataset {self.name} has no {what} {wanted!r}; {there}")

    def _why(self, error: Exception) -> str:
        """Return the cause in a sentence, with the remedy where there is one."""
        kind = type(error).__name__
        if kind == "GatedRepoError" or (kind == "DatasetNotFoundError" and "gated" in str(error).lower()):
            return "it is gated; accept its conditions on its page on the Hub, then log in with: hf auth login"
        if kind == "RevisionNotFoundError":
            return f"it has no revision {self.revision!r}"
        if kind in ("RepositoryNotFoundError", "DatasetNotFoundError"):
            return "it is not there, or private; check the name, or log in: hf auth login"
        if kind in ("ConnectError", "ConnectTimeout", "ReadTimeout", "ConnectionError", "OfflineModeIsEnabled"):
            return "the connection failed; try again, or give a file"
        return " ".join(str(error).split())[:300] or kind


def hub_name(dataset: object) -> str | None:
    """Return `dataset` if it is the name of a dataset on the Hub and of no file here, else None."""
    text = os.fspath(dataset) if isinstance(dataset, (str, os.PathLike)) else ""
    if not isinstance(text, str) or not _NAME.fullmatch(text):
        return None
    path = Path(text)
    from lorameta.data.files import format_of

    if path.exists() or path.parent.is_dir() or format_of(path.name) is not None:
        return None  # a file that was mistyped is a file
    return text
