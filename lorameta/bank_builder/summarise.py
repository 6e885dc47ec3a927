"""Datasets to summaries, as a bank needs them: one encoder of each kind, made when it is first used."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lorameta.bank.bank import AdapterBank
from lorameta.base_model.templates import ChatTemplate, rendered
from lorameta.data import Dataset, ReadReport, read_examples
from lorameta.data.options import ReadOptions
from lorameta.encoder import SentenceEncoder, Summaries, TokenEncoder, merge
from lorameta.errors import LorametaError, UsageError
from lorameta.files.atomic import sha256


@dataclass
class Summariser:
    """Computes the summary of one dataset after the other.

    Attributes
    ----------
    tokenizer : Path or None
        Directory of the base's ``tokenizer.json``, for the part "tokens".
    parts : tuple of str
        Of "tokens" and "sentence".
    reading : ReadOptions
        How datasets are read.
    max_rows : int, optional
        Rows that the sentence encoder embeds at most.
    seed : int
        Of its draws.
    reads : list of ReadReport
        What was made of the columns of the datasets that were summarised.
    """

    tokenizer: Path | None
    parts: tuple[str, ...] = ("tokens",)
    reading: ReadOptions = field(default_factory=ReadOptions)
    max_rows: int | None = None
    seed: int = 0
    prompt_template: str = ""
    reads: list[ReadReport] = field(default_factory=list, compare=False)

    @classmethod
    def of(cls, bank: AdapterBank, tokenizer: Path | None = None, reading: ReadOptions | None = None) -> Summariser:
        """One that makes summaries as those of a bank."""
        parts = tuple(part for part in ("tokens", "sentence") if bank.summaries.has(part))
        most = bank.manifest.encoders.get("sentence", {}).get("rows_at_most")
        most = most if isinstance(most, int) and most > 0 else None
        tokenizer = tokenizer or bank.tokenizer_path
        return cls(tokenizer, parts, reading or ReadOptions(), max_rows=most, prompt_template=bank.prompt_template)

    @cached_property
    def tokens(self) -> TokenEncoder:
        """The token encoder; UsageError without a tokenizer."""
        if self.tokenizer is None:
            raise UsageError(
                "the datasets' tokens cannot be counted without the base's tokenizer; give --tokenizer, a directory "
                "with its tokenizer.json"
            )
        return TokenEncoder(self.tokenizer)

    @cached_property
    def sentences(self) -> SentenceEncoder:
        """The sentence encoder; MissingExtraError if it is not installed."""
        return SentenceEncoder(max_rows=self.max_rows or SentenceEncoder.MAX_ROWS)

    @cached_property
    def tokenizer_hash(self) -> str | None:
        """Of the tokenizer that counts; None if tokens are not counted."""
        return self.tokens.tokenizer_hash if "tokens" in self.parts else None

    def encode(
        self, name: str, dataset: Dataset, *, input_column: str | None = None, output_column: str | None = None
    ) -> Summaries:
        """Return the summaries of one dataset, a file or rows, under the id `name`; its own columns go before those of
        all."""
        reading = self.reading.of_columns(input_column, output_column)
        examples, report = read_examples(dataset, require_output=False, **reading.as_dict())
        examples = rendered(self.prompt_template, examples, lambda: ChatTemplate.of_directory(self.tokenizer))
        self.reads.append(report)
        found = [self.tokens.encode(examples)] if "tokens" in self.parts else []
        if "sentence" in self.parts:
            found.append(self.sentences.encode(examples, seed=self.seed))
        model = self.sentences.model if "sentence" in self.parts else None
        return Summaries.from_list([name], [merge(*found)], tokenizer_hash=self.tokenizer_hash, sentence_model=model)

    def encoders(self) -> dict[str, dict[str, Any]]:
        """Return what a manifest says about the encoders beside what the summaries say."""
        if "sentence" not in self.parts:
            return {}
        about = {"sha256": self.sentences.sha256, "rows_at_most": self.sentences.max_rows}
        return {"sentence": about | {"keeps": self.sentences.KEEPS}}

    def key(self, dataset: Path) -> str:
        """16 hexadecimal digits that change whenever the summary may: the file, or how it is summarised."""
        stat = dataset.stat()
        facts = [str(dataset), stat.st_size, stat.st_mtime_ns, self.reading.as_dict()]
        facts += [self.tokenizer_hash, self.parts, self.seed, self.encoders(), self.prompt_template]
        return sha256(json.dumps(facts, sort_keys=True).encode())[:16]

    def encode_all(
        self, datasets: Iterable[tuple[str, Path]], folder: Path, problems: list[str], progress: Any
    ) -> tuple[list[Summaries], int]:
        """Summaries of many datasets, each kept in `folder` when it is finished and read from there the next time.

        Parameters
        ----------
        datasets : iterable of id and file
        folder : Path
            For finished summaries.
        problems : list of str
            Is extended by what is wrong with the datasets.
        progress : callable
            Told 1 after each.

        Returns
        -------
        summaries : list of Summaries
            Of one id each, of those that could be read.
        reused : int
            How many were finished before.
        """
        found, reused = [], 0
        for name, dataset in datasets:
            path = folder / f"{name}-{self.key(dataset)}.safetensors"
            try:
                if path.is_file():
                    found.append(Summaries.load(path))
                    reused += 1
                else:
                    self.encode(name, dataset).save(path)
                    found.append(Summaries.load(path))  # as it is kept: with numbers rounded to float16
            except LorametaError as error:
                if error.exit_code != 2 or isinstance(error, ImportError):
                    raise
                problems.append(f"{name}: {error}")
            progress(1)
        return found, reused
