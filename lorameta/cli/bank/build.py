"""`lorameta bank build`: a bank out of adapters and the datasets behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lorameta.cli import common
from lorameta.cli.bank.shared import made_facts, show_notes
from lorameta.cli.declare import arg, opt, switch
from lorameta.cli.progress import counting
from lorameta.cli.reading import with_file_reading
from lorameta.errors import UsageError


@with_file_reading
def build(
    out: Annotated[
        Path | None,
        arg(
            "OUT",
            "The bank's directory: new, or one in which an earlier run stopped. With --preset it may be left out: "
            "the place in the cache where --bank NAME finds it.",
        ),
    ] = None,
    adapters: Annotated[
        Path | None, opt("DIR", "One PEFT directory for each adapter; its name becomes the id.")
    ] = None,
    preset: Annotated[str | None, opt("NAME", "A collection on the Hub that lorameta knows: lots-of-loras.")] = None,
    hub_author: Annotated[str | None, opt("NAME", "All adapters of an author; their cards name the datasets.")] = None,
    hub_collection: Annotated[str | None, opt("SLUG", "The adapters of a collection on the Hub.")] = None,
    hub_list: Annotated[
        Path | None,
        opt(
            "FILE",
            "A table with the column adapter (author/name) and any of id, dataset, config, split, input_column, "
            "output_column, task, family, licence, description.",
        ),
    ] = None,
    base: Annotated[
        str | None, opt("NAME|DIR", "The base model of all adapters: an id of the Hub, or a directory.")
    ] = None,
    datasets: Annotated[
        Path | None, opt("DIR", "<id>.jsonl (.json, .csv, .tsv, .parquet): the rows each was trained on.")
    ] = None,
    summaries: Annotated[
        Path | None, opt("FILE", "A summaries file, where the rows themselves are not at hand.")
    ] = None,
    index: Annotated[
        Path | None,
        opt(
            "FILE",
            "A table with the column id and any of adapter, dataset (where names do not match), task, family, "
            "licence, description, source.",
        ),
    ] = None,
    name: Annotated[str | None, opt("NAME", "The bank's name; that of OUT by default.")] = None,
    revision: Annotated[str | None, opt("REV", "Of a base on the Hub.")] = None,
    base_name: Annotated[list[str] | None, opt("NAME", "What adapters call the base as well; may be repeated.")] = None,
    tokenizer: Annotated[str | None, opt("DIR", "Of the base's tokenizer.json; by default the base's.")] = None,
    with_sentences: Annotated[
        bool, switch("--with-sentences", "Summarise sentence embeddings too (needs the extra sentence).")
    ] = False,
    copy_base: Annotated[bool, switch("--copy-base", "Carry a base directory along in the bank.")] = False,
    link: Annotated[bool, switch("--link", "Hard links instead of copies, where that is possible.")] = False,
    skip_bad: Annotated[bool, switch("--skip-bad", "Leave out what is refused; bank.json says what and why.")] = False,
    max_rows: Annotated[int | None, opt("N", "Of a dataset on the Hub (default 50000).", min=1)] = None,
    jobs: Annotated[int | None, opt("N", "Repositories that are asked for at once (default 4).", min=1)] = None,
    reading: Any = None,
    as_json: common.AsJson = False,
) -> None:
    """Make a bank of adapters for one base model.

    Every adapter is verified and every dataset summarised. What is refused is listed all at once. A run that was
    stopped goes on where it was when it is started again.

    Of adapters on the Hub only the configurations are fetched now, and their datasets are streamed once; the weights
    follow when a mix first needs them. What cannot be had is left out and listed, with exit code 1; run it again to
    ask for just that.
    """
    hub = common.given(preset=preset, author=hub_author, collection=hub_collection, list=hub_list)
    local = common.given(adapters=adapters, datasets=datasets, summaries=summaries, index=index, base_name=base_name)
    if len(hub) > 1 or (hub and (local or copy_base or link)):
        raise UsageError(
            "a bank is made of one kind of source: directories (--adapters, --datasets, ...), or one of --preset, "
            "--hub-author, --hub-collection and --hub-list"
        )
    if hub:
        from lorameta.cli.bank.hub import build_from_hub

        build_from_hub(
            out, hub, as_json=as_json, base=base or "", name=name, revision=revision, tokenizer=tokenizer,
            sentences=with_sentences, skip_bad=skip_bad, reading=reading.for_files(),
            **common.given(max_rows=max_rows, jobs=jobs),
        )  # fmt: skip
        return
    if adapters is None or base is None or out is None:
        lacking = [name for name, value in (("OUT", out), ("--adapters", adapters), ("--base", base)) if value is None]
        raise UsageError(f"{', '.join(lacking)} is missing; for adapters on the Hub, give --preset, --hub-author, "
                         "--hub-collection or --hub-list instead of --adapters")  # fmt: skip
    from lorameta.bank_builder.local import build as make

    built = make(
        out, adapters, base=base, datasets=datasets, summaries=summaries, index=index, name=name, revision=revision,
        base_name=base_name, tokenizer=tokenizer, sentences=with_sentences, copy_base=copy_base, link=link,
        skip_bad=skip_bad, reading=reading.for_files(),
        counting=counting,
    )  # fmt: skip
    if as_json:
        common.print_json(made_facts(built))
        return
    show_notes(built.left_out, built.notes)
    typer.echo(
        f"Made a bank of {built.adapters} adapters in {built.path} in {common.elapsed():.1f} s.\n"
        f"Look at it with: lorameta bank info {common.quoted(built.path)}"
    )
