"""`lorameta bank`: one verb a file."""

from __future__ import annotations

from lorameta import cli
from lorameta.cli.verbs import group

#: Verb → the first sentence of its help.
VERBS = {
    "info": "Say what a bank is: its base, its adapters, their licences.",
    "list": "List a bank's adapters and what each scores on its own task.",
    "check": "Verify every file of a bank: hashes, shapes, numbers, names.",
    "fit": "Fit an operator to a bank and keep it there, for `generate --operator NAME`.",
    "build": "Make a bank of adapters for one base model.",
    "add": "Add an adapter to a bank.",
    "remove": "Take adapters out of a bank.",
    "stack": "Move the weights of a bank's adapters into a few large files that mixes stream through, bit by bit.",
    "train": "Train an adapter on each dataset of a folder, and make a bank of them.",
    "pull": "Get the index of a bank from the Hub: records, summaries, tokenizer; no dataset, no adapter.",
    "push": "Publish a bank on the Hub.",
}

app = group(
    "lorameta.cli.bank",
    VERBS,
    help=cli.VERBS["bank"],
)
