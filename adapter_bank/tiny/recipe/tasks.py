"""What all steps of the recipe share: paths, the choice of tasks, the split of the rows, the seeds."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
from pathlib import Path

from lorameta.data import Example
from lorameta.data.split import part_of

RECIPE = Path(__file__).resolve().parent
BANK = RECIPE.parent
WORK = Path(os.environ.get("LORAMETA_WORK", BANK.parent.parent / ".work"))  # checkpoints, never committed
SEED = 20260101

#: Sources whose tasks the base is trained on. None of them is in the bank, so an adapter of the bank
#: never learned a task that the base had already seen. 25 of the 121 tasks, no family left without a bank task.
BASE_SOURCES = ("snips e2e masc disflqa vader corpora_lists unimorph opentrivia comve ecare noun_verb").split()

#: The bank's tasks, of 15 families, `clinc_domain` and `hwu_scenario` near to the demo's rows. The study in
#: benchmarks/results/quality.json was measured on 89 adapters; what the base may see still depends on all 96 tasks.
KEPT = (
    "analogy_family banking_card_intent blimp_irregular_forms booking_date clinc_domain emotion_group hwu_scenario "
    "larger_animal list_choose_first_of_5 negate_sentence noun_plural person_or_company product_pros_cons "
    "sentence_language sgd_speaker verb_tense_in_sentence"
).split()


def load_index(data: Path) -> list[dict]:
    return json.loads((data / "tasks" / "index.json").read_text(encoding="utf-8"))


def base_tasks(data: Path) -> list[dict]:
    return [task for task in load_index(data) if task["source"]["name"] in BASE_SOURCES]


def bank_tasks(data: Path) -> list[dict]:
    """All tasks that the base must not see; the bank has adapters of those in `KEPT`."""
    return [task for task in load_index(data) if task["source"]["name"] not in BASE_SOURCES]


def kept_tasks(data: Path) -> list[dict]:
    return [task for task in load_index(data) if task["id"] in KEPT]


def load_rows(data: Path, task_id: str) -> list[dict]:
    path = data / "tasks" / f"{task_id}.jsonl"
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def load_corpus(data: Path) -> dict[str, list[str]]:
    """Every corpus file as a list of documents, by file stem."""
    separator = "\n<|end|>\n"
    corpus = {}
    for path in sorted((data / "corpus").glob("*.txt.gz")):
        text = gzip.decompress(path.read_bytes()).decode("utf-8")
        corpus[path.name.removesuffix(".txt.gz")] = [d.strip() for d in text.split(separator) if d.strip()]
    return corpus


def row_split(row: dict) -> str:
    """`train` (80 %), `validation` (8 %) or `test` (12 %), by the rule of the package."""
    return part_of(Example(row["input"], (str(row["output"]),)))


def split_rows(rows: list[dict]) -> dict[str, list[dict]]:
    parts: dict[str, list[dict]] = {"train": [], "validation": [], "test": []}
    for row in rows:
        parts[row_split(row)].append(row)
    return parts


def base_hash() -> str:
    """SHA-256 of the base's weights: what everything after step 2 belongs to."""
    return hashlib.sha256((BANK / "base" / "model.safetensors").read_bytes()).hexdigest()


def in_the_bank() -> dict[str, dict]:
    """Records of the bank as it is, by id; none if there is no bank, or if it is one of another base."""
    path = BANK / "bank.json"
    if not path.exists():
        return {}
    manifest = json.loads(path.read_text(encoding="utf-8"))
    if manifest["base"]["sha256"].get("model.safetensors") != base_hash():
        return {}
    return {record["id"]: record for record in [*manifest["adapters"], *manifest["left_out"]]}


def finished() -> dict[str, dict]:
    """Facts of the adapters of this base that wait in the work folder, by task."""
    found = (json.loads(path.read_text()) for path in sorted((WORK / "adapters").glob("*.json")))
    return {facts["id"]: facts for facts in found if facts["base_sha256"] == base_hash()}


def prompt_text(prompt: str) -> str:
    """The text a task prompt carries behind its definition: what must not leak from the bank into the base."""
    body = prompt.split("\n\nInput: ", 1)[-1]
    return body.removesuffix("\n\nOutput:")


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def shingles(text: str, size: int = 8) -> set[int]:
    """Hashes of all runs of `size` words; a shorter text of at least five words counts as one run."""
    tokens = words(text)
    if len(tokens) < 5:
        return set()
    if len(tokens) < size:
        return {hash(tuple(tokens))}
    return {hash(tuple(tokens[i : i + size])) for i in range(len(tokens) - size + 1)}
