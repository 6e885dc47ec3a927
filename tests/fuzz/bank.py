"""A sound bank of three adapters whose files are small: each is read in well under a millisecond."""

from __future__ import annotations

import json
from pathlib import Path

from lorameta.bank import AdapterRecord, BaseRecord, write_bank
from lorameta.data import Example
from lorameta.encoder.summary import Summaries
from lorameta.encoder.tokens import TokenEncoder
from tests.peft_helpers import K, Q, random_factors, write_peft

IDS = ("bark", "moo", "opposite")


def write(root: Path) -> Path:
    """Write it, and return where."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    (root / "base").mkdir(parents=True)
    (root / "base" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    vocabulary = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [("d", "o"), ("do", "g"), ("c", "o"), ("co", "w")]
    vocabulary |= {one + other: len(vocabulary) + i for i, (one, other) in enumerate(merges)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(root / "base" / "tokenizer.json"))
    encoder = TokenEncoder(root / "base")
    shapes = {Q: (6, 5), K: (4, 5)}
    for seed, name in enumerate(IDS):
        write_peft(root / "adapters" / name, random_factors(seed, 2, shapes), base_model_name_or_path="base")
    summaries = [encoder.encode([Example(f"{name} of the dog", ("cow",))]) for name in IDS]
    write_bank(
        root,
        name="small",
        base=BaseRecord("base"),
        summaries=Summaries.from_list(IDS, summaries, tokenizer_hash=encoder.tokenizer_hash),
        records=[AdapterRecord(name, name, "f", licence="MIT", source={"repo": "o/r"}) for name in IDS],
    )
    return root
