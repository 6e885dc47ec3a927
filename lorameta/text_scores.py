"""Exact match and ROUGE-L of texts, in every script."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from typing import Any

from lorameta.errors import UsageError, requires

#: Scripts without spaces between words, by their first and last character: each character counts as a word.
_UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3040, 0x30FF),
    (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x20000, 0x3FFFF),
)  # fmt: skip


def text_scores(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, list[float]]:
    """Return exact match and ROUGE-L of every prediction against the best of its references.

    Parameters
    ----------
    predictions : sequence of str
    references : sequence of sequences of str
        At least one reference a prediction.

    Returns
    -------
    dict
        ``exact_match`` (0.0 or 1.0) and ``rouge_l`` (in [0, 1]), one value a row.
    """
    if len(predictions) != len(references):
        raise UsageError(f"{len(predictions)} predictions, but {len(references)} rows of references")
    with requires("rouge-score", "evaluate", "ROUGE-L"):
        from rouge_score.rouge_scorer import RougeScorer
    scorer = RougeScorer(["rougeL"], tokenizer=Words())
    exact, rouge = [], []
    for prediction, options in zip(predictions, references, strict=True):
        prediction = prediction.strip()
        exact.append(float(any(prediction == option.strip() for option in options)))
        rouge.append(max((scorer.score(o, prediction)["rougeL"].fmeasure for o in options), default=0.0))
    return {"exact_match": exact, "rouge_l": rouge}


class Words:
    """Splits texts into words for ROUGE: the tokenizer of ``rouge-score`` (with stemming), for every script.

    Words are runs of letters, marks and digits; in scripts without spaces between words, each character is one.
    Words of Latin letters without accents are stemmed as ``rouge-score`` does it, so English texts have its scores.
    Texts without a letter or digit are compared by their characters.
    """

    def tokenize(self, text: str) -> list[str]:
        """Return the words of a text in lower case."""
        words: list[str] = []
        current = ""
        for character in unicodedata.normalize("NFC", text).lower():
            if unicodedata.category(character)[0] not in "LMN":
                words.append(current)
                current = ""
            elif _unspaced(character) and unicodedata.category(character)[0] != "M":
                words += [current, character]
                current = ""
            else:
                current += character
        words = [word for word in (*words, current) if word]
        if not words:
            return [character for character in text if not character.isspace()]
        return [_stem(word) if len(word) > 3 and word.isascii() else word for word in words]


def _unspaced(character: str) -> bool:
    code = ord(character)
    return code >= 0x0E00 and any(first <= code <= last for first, last in _UNSPACED)


@functools.lru_cache(maxsize=100_000)
def _stem(word: str) -> str:
    return _stemmer().stem(word)


@functools.cache
def _stemmer() -> Any:
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()
