"""Step 1: the tokenizer, byte-level BPE on the corpus and the base's own tasks."""

from __future__ import annotations

import argparse
from pathlib import Path

from tasks import BANK, base_tasks, load_corpus, load_rows
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 6000
SPECIAL = ["<pad>", "<s>", "</s>"]


def train_tokenizer(data: Path) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )

    def texts():
        for name, documents in load_corpus(data).items():
            # Books are a third of the corpus; every third document keeps the modern text in balance.
            yield from documents[:: 3 if name == "books" else 1]
        for task in base_tasks(data):
            for row in load_rows(data, task["id"]):
                yield f"{row['input']} {row['output']}"

    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", SPECIAL.index("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--again", action="store_true", help="even if there is one")
    arguments = parser.parse_args()
    if (BANK / "base" / "tokenizer.json").exists() and not arguments.again:
        print("there is a tokenizer; --again makes a new one")
        raise SystemExit(0)
    tokenizer = train_tokenizer(arguments.data)
    tokenizer.save_pretrained(BANK / "base")
    print(f"{len(tokenizer)} tokens in {BANK / 'base'}")
