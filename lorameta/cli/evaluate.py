"""`lorameta evaluate`: the base and its adapters side by side on labelled rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorameta.cli import common, html
from lorameta.cli.declare import opt, switch
from lorameta.cli.progress import counting, waiting
from lorameta.cli.reading import named, with_reading
from lorameta.errors import BankError, UsageError, violations

if TYPE_CHECKING:
    from lorameta.adapter import Adapter
    from lorameta.bank import AdapterBank
    from lorameta.data import Example
    from lorameta.evaluate import Scorer


@with_reading
def evaluate(
    data: common.Data,
    adapter: Annotated[
        list[Path] | None, opt("DIR", "A PEFT directory to score; may be given several times.", "--adapter", "-a")
    ] = None,
    bank: common.Bank = common.DEFAULT_BANK,
    base: Annotated[
        str | None,
        opt(
            "MODEL",
            "The base, a directory or a Hub id, in place of a bank's: for adapters of refine and finetune.",
            "--base",
            "-b",
        ),
    ] = None,
    base_name: Annotated[list[str] | None, opt("NAME", "What adapters call the base as well; may be repeated.")] = None,
    baselines: Annotated[
        bool, switch("--baselines", "Score the bank's nearest adapter and its uniform average as well.")
    ] = False,
    limit: Annotated[int | None, opt("N", "Score the first N rows only.", min=1)] = None,
    batch_size: Annotated[int, opt("N", "Rows that are answered at once.", min=1)] = 32,
    max_new_tokens: Annotated[int, opt("N", "Longest answer.", min=1)] = 32,
    predictions: Annotated[
        Path | None, opt("FILE.jsonl", "Write a line for each row: prompt, answers, scores.")
    ] = None,
    reading: Any = None,
    html_file: html.File = None,
    as_json: common.AsJson = False,
) -> None:
    """Score the base model and adapters on labelled rows, side by side.

    Exact match, ROUGE-L and loss per token, each with a 95 % interval, on rows that no adapter should have been made
    from; some wrong and some right answers of the last adapter. The nearest adapter of --baselines is the one nearest
    to DATA itself.
    """
    meter = html.start(html_file)
    if base is not None and baselines:
        raise UsageError("--baselines are mixed from a bank; name it with --bank, and leave --base out")
    if predictions is not None and predictions.is_dir():
        raise UsageError(f"{predictions} is a directory; name a file for the predictions")
    read = reading.rows(data, labelled=True)
    opened = common.open_bank(bank) if base is None else None
    candidates: dict[str, Adapter | None] = {"base": None, **_read(adapter or [])}
    with waiting("loading the base model"):
        from lorameta.evaluate import Scorer

        notes = _add_baselines(candidates, read, opened) if baselines and opened is not None else {}
        where, revision = _base_of(base, opened)
        scorer = Scorer(where, revision=revision, batch_size=batch_size, max_new_tokens=max_new_tokens)
        examples, around = _prompts(read, opened, scorer, where)
        _require_same_base(candidates, _names_of(base, opened, base_name or []), scorer.model)
    chosen = examples[:limit]
    with counting("scoring", len(chosen) * len(candidates), "rows") as progress:
        scores = {name: scorer.score(chosen, one, progress=progress) for name, one in candidates.items()}
    from lorameta.report import answers as told

    rows = told.answers(chosen, scores)
    confusion = {name: told.confusion(chosen, score.predictions) for name, score in scores.items()}
    report: dict[str, Any] = {
        **reading.facts(),
        "base_model": base or where,
        "rows": len(chosen),
        "scores": {name: score.as_dict() for name, score in scores.items()},
        **notes,
        **_sources(candidates),
        "confusion": {name: found for name, found in confusion.items() if found},
        "answers": rows,
        **common.costs(),
    }
    if predictions is not None:
        _write(predictions, rows)
    report = html.write("evaluate", html_file, report, meter)
    if as_json:
        common.print_json(report)
        return

    from lorameta.report.scores import scores_table

    shown = _shown(candidates)[-1]
    of_what = f"the base {base}" if opened is None else f"the base of the bank {opened.name}"
    typer.echo(f"Scored {len(chosen)} of {len(examples)} rows of {named(data)} on {of_what}.")
    typer.echo(f"\n{scores_table(scores)}\n")
    if found := report["confusion"].get(shown):
        typer.echo(f"Answers of {shown} by the label that was wanted:\n{told.confusion_table(found)}\n")
    typer.echo(f"Some answers of {shown} (--predictions FILE.jsonl has them all):")
    typer.echo(f"{told.answers_text(rows, chosen, shown, within=around)}\n")
    if notes:
        typer.echo(f"nearest adapter: {notes['nearest']}, the one nearest to these {len(examples)} rows")
    typer.echo(f"Time {common.elapsed():.1f} s, peak memory {common.peak_memory()} MB")
    html.written(html_file)


def _sources(candidates: Mapping[str, Adapter | None]) -> dict[str, Any]:
    """Return what the adapters derive from, where they say it."""
    found: dict[str, Any] = {}
    for name in _shown(candidates)[1:]:
        adapter = candidates[name]
        found.update(adapter.report.get("sources", {}) if adapter is not None else {})
    return {"sources": found} if found else {}


def _shown(candidates: Mapping[str, Adapter | None]) -> list[str]:
    """Return the models, the one whose answers are shown last: the last adapter that was given, else the base."""
    given = [name for name in candidates if name not in ("base", "nearest adapter", "uniform average")]
    return ["base", *given]


def _write(file: Path, rows: list[dict[str, Any]]) -> None:
    import json

    from lorameta.files.atomic import write_file

    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_file(file, "".join(lines).encode("utf-8", "replace"))


def _read(directories: list[Path]) -> dict[str, Adapter | None]:
    """Return the adapters by the name of their directory, or by their whole path where two directories are named
    alike."""
    from lorameta.adapter import Adapter

    short = [path.resolve().name for path in directories]
    names = [
        name if short.count(name) == 1 and name != "base" else str(path)
        for name, path in zip(short, directories, strict=True)
    ]
    if len(set(names)) < len(names):
        raise UsageError("the same --adapter was given twice")
    return {name: Adapter.from_pretrained(path) for name, path in zip(names, directories, strict=True)}


def _base_of(base: str | None, bank: AdapterBank | None) -> tuple[str, str | None]:
    """Return where the base is, and its revision."""
    if bank is not None:
        return bank.base_model, bank.base_revision
    from lorameta.base_model.locate import local_base

    return local_base(base or ""), None


def _prompts(rows: list[Example], bank: AdapterBank | None, scorer: Scorer, base: str) -> tuple[list[Example], str]:
    """Return the rows as the model reads them, and the template that is around them."""
    if bank is not None:
        return bank.prompts(rows), bank.about_rows(rows).get("prompt_template", "")
    from lorameta.base_model.templates import ChatTemplate, common_template, rendered

    chat = lambda: ChatTemplate.of(scorer.tokenizer, base)  # noqa: E731
    return rendered("", rows, chat), common_template("", rows, chat)


def _names_of(base: str | None, bank: AdapterBank | None, more: list[str]) -> list[str]:
    """Return all names that adapters may have for the base."""
    if bank is None:
        return [base or "", *more]
    record = bank.manifest.base
    return [bank.base_model, record.model, record.name or "", *record.also, *more]


def _require_same_base(candidates: Mapping[str, Adapter | None], names: list[str], model: Any) -> None:
    """Refuse adapters that were made for another base: by its name, or by what they change."""
    from lorameta.adapter.base_names import is_local, same_base
    from lorameta.base_model.shape import linear_shapes

    shapes = linear_shapes(model, head=True)
    local = any(Path(name).is_dir() for name in names if name)
    problems, remedy = [], "Leave them out, or name their own bank with --bank, or their base with --base."
    for name, adapter in candidates.items():
        if adapter is None:
            continue
        said = adapter.base_model
        # What a folder is called somewhere tells nothing: then the layers decide alone.
        if said and not same_base(said, names) and not (local and len(names) == 1) and not is_local(said):
            problems.append(f"{name}: adapter_config.json says that it was made for {said!r}")
            remedy = f"{remedy} If it is the same base, say so with --base-name {said}."
        odd = [
            f"{module} {pair.shape}, which is {shapes.get(module, 'not')} in the base"
            for module, pair in adapter.modules.items()
            if shapes.get(module) != pair.shape
        ]
        if odd:
            problems.append(f"{name}: it changes {odd[0]}" + (f" (and {len(odd) - 1} more)" if len(odd) > 1 else ""))
    if problems:
        heading = f"adapters for another base than {next(name for name in names if name)}:"
        raise BankError(violations(problems, heading, remedy))


def _add_baselines(candidates: dict[str, Adapter | None], examples: list[Example], bank: AdapterBank) -> dict[str, str]:
    """Add what anybody would try first: the nearest adapter alone, and the plain average of all."""
    from lorameta.generate import generate_adapter

    nearest = generate_adapter(examples, bank=bank, operator="nearest")
    candidates["nearest adapter"] = nearest
    candidates["uniform average"] = generate_adapter(examples, bank=bank, operator="uniform")
    return {"nearest": next(iter(nearest.weights))}
