"""`lorameta export`: an adapter for llama.cpp, or merged into its base."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorameta.cli import common
from lorameta.cli.declare import arg, opt, switch
from lorameta.cli.progress import waiting
from lorameta.errors import UsageError
from lorameta.export import FORMATS

if TYPE_CHECKING:
    from lorameta.export import Exported

#: Share of the update lost by rounding above which a wider dtype is proposed.
NOTABLE = 0.01


def export(
    adapter: Annotated[Path, arg("ADAPTER", "The adapter: a PEFT directory.")],
    format: Annotated[
        str,
        opt(
            "NAME",
            " ".join(f"{name}: {what}." for name, what in FORMATS.items()),
        ),
    ],
    output: Annotated[Path, opt("OUT", "The file (gguf) or directory (merged, ollama).", "--output", "-o")],
    base: Annotated[
        str | None, opt("DIR", "The base: a directory or a Hub id in the cache; by default the one the adapter names.")
    ] = None,
    dtype: Annotated[
        str | None, opt("NAME", "f32, f16 or bf16; by default f32 for gguf and ollama, as in the base for merged.")
    ] = None,
    shard_size: Annotated[
        str | None, opt("SIZE", "Largest file of weights, e.g. 4GB; by default as in the base. merged.")
    ] = None,
    from_model: Annotated[
        str | None, opt("MODEL", "What Ollama calls the base: a name of its library, or a GGUF file. ollama.", "--from")
    ] = None,
    base_gguf: Annotated[
        Path | None,
        opt(
            "FILE",
            "The base's GGUF file, for an adapter that changes a head tied to the embedding: a copy with a head of "
            "its own is written beside OUT. gguf.",
        ),
    ] = None,
    force: Annotated[bool, switch("--force", "Replace what was exported to OUT before.")] = False,
    as_json: common.AsJson = False,
) -> None:
    """Write an adapter for other runtimes than PEFT.

    A GGUF adapter goes with the base in GGUF, whatever that is quantized to; only the base's config.json is needed to
    write it. A merged model is the whole base again, with the adapter in its weights.
    """
    from lorameta.export import export as write

    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}; there are {', '.join(FORMATS)}")
    if shard_size is not None and format != "merged":
        raise UsageError(f"--shard-size is for --format merged; {format} is one file")
    if from_model is not None and format != "ollama":
        raise UsageError("--from is for --format ollama; the base of the others is --base")
    if base_gguf is not None and format != "gguf":
        raise UsageError("--base-gguf is for --format gguf")
    if output.exists() and not force and (output.is_file() or any(output.iterdir())):
        raise UsageError(f"{output} is there already; name another place, or replace it with --force")
    options = common.given(
        base=base, dtype=dtype, shard_size=common.bytes_of(shard_size), from_model=from_model, base_gguf=base_gguf
    )
    with waiting("exporting"):
        done = write(adapter, output, format=format, **options)
    if as_json:
        common.print_json({"adapter": str(adapter), **done.as_dict(), **common.costs()})
        return
    _print(done, adapter)


def _print(done: Exported, adapter: Path) -> None:
    from lorameta.report.mixture import aligned

    lost = f"{done.rounding:.2%} of the update" if done.rounding >= 1e-4 else f"{done.rounding:.0e} of the update"
    lost = lost if done.rounding >= 1e-12 else "none"
    if done.format == "merged":
        lost += f"; {done.details['unchanged']:.1%} of the changed layers' weights stay as they were"
    facts = [
        ("Written", f"{done.path}  ({common.file_size(done.bytes)})"),
        ("Base", done.base),
        ("Layers", f"{done.modules} changed by the adapter"),
        ("Rounding", lost),
        ("Time", f"{common.elapsed():.1f} s"),
        ("Peak memory", f"{common.peak_memory()} MB"),
    ]
    typer.echo(aligned(facts))
    if done.format == "merged" and done.rounding > NOTABLE:
        typer.echo(
            "\nThe adapter's numbers are small beside the base's, so that rounding takes a part of them away. "
            "--dtype f16 keeps more\nin the same space, --dtype f32 all of it; a GGUF adapter leaves the base alone."
        )
    if done.format == "gguf":
        model = done.details["model"]
        if model is not None:
            typer.echo(
                "\nThe adapter changes the head, which the base ties to its embedding: llama.cpp has no tensor to add "
                f"that to.\nSo {model} was written as well: the base with a head of its own, to be used in its place."
            )
        from lorameta.adapter.metadata import read_metadata
        from lorameta.export.run_it import llama_cpp

        typer.echo(f"\n{llama_cpp(done, read_metadata(adapter))}")
    elif done.format == "ollama":
        typer.echo(
            f"""
Run it with Ollama (from {done.details["from"]}):
    ollama create my-adapter -f {common.quoted(done.path / "Modelfile")}
    ollama run my-adapter "AN INPUT\""""
        )
    elif done.format == "merged":
        typer.echo(
            f"""
Load it in Python:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    model = AutoModelForCausalLM.from_pretrained({str(done.path)!r})
    tokenizer = AutoTokenizer.from_pretrained({str(done.path)!r})"""
        )
