"""How much text of bank tasks is in what the base was trained on: runs of eight words shared, and whole texts found.

Reads the windows that `pretrain.py` prepared and writes `benchmarks/results/base_overlap.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from pretrain import BATCH, DATA, STEPS
from tasks import BANK, bank_tasks, base_hash, load_rows, prompt_text, shingles, words
from transformers import AutoTokenizer

from benchmarks.common import stamp


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    tokenizer = AutoTokenizer.from_pretrained(BANK / "base")
    arrays = np.load(DATA)
    texts = [prompt_text(row["input"]) for task in bank_tasks(data) for row in load_rows(data, task["id"])]
    texts = [text for text in texts if len(words(text)) >= 8]
    runs = [shingles(text) for text in texts]
    wanted = set().union(*runs)
    result = stamp({"data": data}) | {"base_sha256": base_hash(), "bank_texts_of_eight_words_or_more": len(texts)}
    for name in ("text", "prompts"):
        windows = arrays[name][: STEPS * BATCH // 2]
        seen: set[int] = set()
        touched = 0
        for text in tokenizer.batch_decode(windows.tolist()):
            found = shingles(text.replace("<s>", " . ").replace("</s>", " . ")) & wanted
            touched += bool(found)
            seen |= found
        whole = sum(run <= seen for run in runs)
        result[name] = {"windows": len(windows), "windows_with_a_shared_run": touched, "whole_bank_texts": whole}
    path = BANK.parent.parent / "benchmarks" / "results" / "base_overlap.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
