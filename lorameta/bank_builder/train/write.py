"""The end of a run: the adapters that are good enough, and the summaries of their rows, become a bank in one step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorameta.bank import edit
from lorameta.bank.hub.contents import TOKENIZER_FILES
from lorameta.bank.records import AdapterRecord, BaseRecord, Manifest
from lorameta.bank.write import fill, hash_files
from lorameta.bank_builder.train.plan import BankPlan, BankRun
from lorameta.bank_builder.train.store import TrainedAdapters, in_bank
from lorameta.base_model.load import tokenizer_file
from lorameta.encoder import DatasetSummary, SentenceEncoder, Summaries, TokenEncoder, merge
from lorameta.errors import BankError
from lorameta.files.atomic import write_file
from lorameta.training.train import ENGINE

#: Rows whose sentence embeddings make the moments; the token histogram counts all training rows.
EMBEDDED_ROWS = 256


def token_encoder(run: BankRun, folder: Path) -> TokenEncoder:
    """Return the encoder of the base's tokenizer; `folder` is for a copy of one that is on the Hub."""
    return TokenEncoder(tokenizer_file(run.base, run.revision, folder))


def weak(facts: Mapping[str, Any]) -> str | None:
    """Return why an adapter is left out of a bank: it must beat the base on the validation rows."""
    losses = facts["losses"]["validation"]
    if losses["adapter"] < losses["base"]:
        return None
    return f"validation loss {losses['adapter']:.4f}, base {losses['base']:.4f}"


def write(
    run: BankRun,
    store: TrainedAdapters,
    encoder: TokenEncoder,
    plan: BankPlan,
    kept: Mapping[str, dict[str, Any]],
    left_out: Mapping[str, str],
    name: str,
    sentences: bool,
) -> Path:
    """Return the bank of the adapters in `kept`, in one step; those that it has already stay where they are."""
    base = BaseRecord(run.said, run.revision, encoder.tokenizer_hash)
    if not Path(run.said).is_absolute() and (run.root / run.said).is_dir():
        base = replace(base, sha256=hash_files(run.root / run.said))
    summaries, encoders = _summaries(run, store, kept, sentences)
    stacked = Summaries.from_list(
        list(kept),
        summaries,
        tokenizer_hash=encoder.tokenizer_hash,
        sentence_model=encoders.get("sentence", {}).pop("model", None),
    )
    recipe = {
        "made_by": "lorameta bank train",
        "settings": run.settings.as_dict(),
        "engine": ENGINE,
        "threads": plan.threads,
        "base": run.fingerprint,
    }

    def change(manifest: Manifest | None) -> edit.Change:
        problems: list[str] = []
        records, moves = [], {}
        for id, facts in kept.items():
            record = _record(run, id, facts)
            known = in_bank(id, facts, manifest)
            if known is not None:
                files = ("rank", "alpha", "rslora", "targets", "path", "sha256", "config_sha256", "bytes")
                stored = (*files, "shard", "row", "row_sha256")
                records.append(replace(record, **{key: getattr(known, key) for key in stored}))
                continue
            staged = store.staged(id)
            path = edit.free_path(run.root, manifest, id)
            records.append(fill(run.root, base, replace(record, path=path), problems, staged))
            moves[path] = staged
        BankError.raise_if(problems, f"no bank was written to {run.root}:")
        shards = manifest.shards_of(records) if manifest else {}
        reasons = tuple({"id": id, "reason": why} for id, why in sorted(left_out.items()))
        fresh = Manifest(name, base, {}, tuple(records), encoders, reasons, recipe, shards, run.prompt_template)
        return edit.Change(fresh, stacked, moves)

    if not base.sha256:  # who generates from the bank needs the tokenizer, and perhaps nothing else of the base
        for file in (encoder.path.parent / name for name in TOKENIZER_FILES):
            if file.is_file():
                write_file(run.root / "tokenizer" / file.name, file.read_bytes())
    edit.write(run.root, change)
    return run.root


def _record(run: BankRun, id: str, facts: Mapping[str, Any]) -> AdapterRecord:
    """Return what the bank says of an adapter; nothing that another run of the same would measure differently."""
    task = run.tasks[id]
    losses = {
        part: {who: {"rows": found["rows"], "loss": round(found[who], 5)} for who in ("base", "adapter")}
        for part, found in facts["losses"].items()
    }
    if facts.get("scores"):
        losses["test"] = facts["scores"]
    training = {
        "settings": run.settings.as_dict(),
        "validation_loss": [round(value, 4) for value in facts["validation_loss"]],
        **{key: facts[key] for key in ("steps", "best_epoch", "tokens", "shortened")},
    }
    return AdapterRecord(
        id=id,
        task=id,
        family=task.family,
        description=task.definition,
        source=task.source,
        licence=task.licence,
        rows=run.parts[id].counts(),
        training=training,
        scores=losses,
    )


def _summaries(
    run: BankRun, store: TrainedAdapters, ids: Iterable[str], sentences: bool
) -> tuple[list[DatasetSummary], dict[str, dict[str, Any]]]:
    """Return the summaries of the training rows, and what the manifest says of their encoders."""
    if not sentences:
        return [run.summaries[id] for id in ids], {}
    encoder: SentenceEncoder | None = None
    found = []
    for id in ids:
        cache = store.folder / "sentences" / f"{id}-{run.keys[id][:16]}.safetensors"
        if not cache.is_file():
            encoder = encoder or SentenceEncoder(max_rows=EMBEDDED_ROWS)
            cache.parent.mkdir(parents=True, exist_ok=True)
            summary = encoder.encode(run.parts[id].train, seed=run.settings.seed)
            Summaries.from_list([id], [summary], sentence_model=encoder.model).save(cache)
        found.append(merge(run.summaries[id], Summaries.load(cache)[id]))
    about = {"model": SentenceEncoder.model, "sha256": SentenceEncoder.sha256, "rows_at_most": EMBEDDED_ROWS}
    about["keeps"] = SentenceEncoder.KEEPS
    return found, {"sentence": about}
