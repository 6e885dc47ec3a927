"""`results/scale.json` as Markdown: the lines that the README shows."""

from __future__ import annotations

from typing import Any

NAMES = {"BF16": "bfloat16", "F32": "float32", "F16": "float16"}


def dense_rows(results: dict[str, Any]) -> list[list[str]]:
    rows = []
    for dtype, found in results.items():
        for kind, what in (("dense", ""), ("dense_without_numba", ", without numba")):
            if line := found.get(kind):
                rows.append(
                    [
                        f"average of {line['adapters']} ({NAMES[dtype]}, {line['gigabytes']:.1f} GB){what}",
                        f"{line['seconds']:.2f}",
                        f"{line['mix_gb_per_second']:.1f}",
                        f"{line['share_of_memory_bandwidth']:.0%}",
                        f"{line['share_of_file_bandwidth']:.0%}",
                        f"{line['peak_gb'] * 1000:.0f}",
                    ]
                )
    return rows


DENSE_HEAD = ["mix", "s", "GB/s", "of reading memory", "of reading the files", "peak MB"]


def merge_rows(found: dict[str, Any]) -> list[list[str]]:
    """The merge of eight by PEFT and by lorameta on the same layers."""
    peft = found["peft"]
    mine = peft["lorameta"]
    rows = [["lorameta, `delta`", "16", f"{mine['seconds']:.3f}", "1", f"{mine['error']:.6f}"]]
    for kind, line in peft["peft"].items():
        rows.append(
            [
                f"PEFT, `{kind}`",
                str(line["rank"]),
                f"{line['seconds']:.3f}",
                _ratio(line["times_slower"]),
                f"{line['error']:.6f}",
            ]
        )
    return rows


MERGE_HEAD = ["merge of 8 adapters of rank 16", "rank", "s", "times lorameta's", "relative error"]


def _ratio(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def count_rows(found: dict[str, Any]) -> list[list[str]]:
    return [
        [
            str(row["adapters"]),
            f"{row['factor_seconds']:.2f}",
            f"{row['delta_seconds']:.2f}",
            f"{row['peak_gb'] * 1000:.0f}",
        ]
        for row in found["count"]["rows"]
    ]


COUNT_HEAD = ["adapters", "`factor`, s", "`delta`, s", "peak MB"]


def sentences(found: dict[str, Any]) -> list[str]:
    """Top-k, opening, checking and the paper's way, in words."""
    top, opened, checked, matrix, peft = (found[name] for name in ("top", "open", "check", "matrix", "peft"))
    spent, cold = checked["seconds"], checked["cold_seconds"]
    from_disk = f"; from the disk {cold['check']:.1f} s, reading alone {cold['read']:.1f} s" if cold else ""
    return [
        f"The exact merge of 8 of {top['adapters']} adapters, cut to rank 16, takes {top['seconds']:.2f} s for all 96",
        f"modules, reading included, and {top['peak_gb'] * 1000:.0f} MB; with all hashes verified, as `generate`",
        f"does it, {top['seconds_with_hashes']:.2f} s and {top['peak_gb_with_hashes'] * 1000:.0f} MB. PEFT was timed",
        f"on {peft['layers']} of 32 layers; for all of them its `svd` would take",
        f"{peft['peft']['svd']['seconds_for_all_layers'] / 60:.0f} minutes. The least error possible at rank 16 is",
        f"{peft['best_possible_error']:.6f}. Opening the bank takes {opened['seconds_first']:.3f} s. `bank check`",
        f"reads and verifies all of it in {spent['check']:.1f} s, where reading alone takes {spent['read']:.1f} s and",
        f"hashing on all cores {spent['hash']:.1f} s{from_disk}. The paper's way, all adapters in one float32 matrix,",
        f"holds {matrix['adapters']} of them in {matrix['peak_gb']:.1f} GB; the matrix takes",
        f"{matrix['load_seconds']:.0f} s to load and the product with the weights {matrix['product_seconds']:.2f} s.",
    ]


def markdown(result: dict[str, Any]) -> str:
    def table(head: list[str], rows: list[list[str]]) -> list[str]:
        rule = "|---" + "|---:" * (len(head) - 1) + "|"
        return [f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(row)} |" for row in rows), ""]

    results = result["results"]
    main = next(iter(results.values()))
    lines = [
        "# Banks of Mistral-7B's shape",
        "",
        f"`{result['command']}` at commit {result['commit'][:12]} on {result['machine']}.",
        f"{result['parameters']:,} numbers an adapter in {result['modules']} modules. The adapters are synthetic, so",
        "nothing here says how good a mixture is. Peak memory is what a process of its own took over its imports,",
        "mapped files included. Files are in the system's cache where nothing else is said.",
        "",
    ]
    if "dense" in main:
        lines += table(DENSE_HEAD, dense_rows(results))
    if "peft" in main:
        lines += table(MERGE_HEAD, merge_rows(main))
    if {"top", "open", "check", "matrix", "peft"} <= set(main):
        lines += [" ".join(sentences(main)), ""]
    if "count" in main:
        lines += ["## Cost against the number of adapters", "", *table(COUNT_HEAD, count_rows(main))]
        lines += [
            "`delta` is exact up to 64 adapters, where the ranks sum to 1,024, and randomised beyond. The errors of"
        ]
        lines += ["`factor` are not computed here; `seconds_with_error` in the JSON says what that adds."]
    return "\n".join(lines).rstrip() + "\n"
