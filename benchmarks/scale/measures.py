"""What lorameta's own operations cost on a bank: opening, mixing, merging, checking."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scale.bank import PARAMETERS, SHARD, TOP
from benchmarks.scale.timing import alternately, in_halves, peak, resident, seconds, weights_of


def measure_open(bank: Path, options: argparse.Namespace) -> dict[str, Any]:
    from lorameta.bank import AdapterBank

    before = resident()
    times = [seconds(lambda: AdapterBank.open(bank)) for _ in range(5)]
    return {"seconds_first": times[0], "seconds": statistics.median(times), "peak_gb": peak() - before}


def measure_dense(bank: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The average of the factors of all adapters, beside reading memory and reading the mapped files."""
    from threadpoolctl import threadpool_limits

    import lorameta.combiner.randomised  # noqa: F401 - so that it counts as imported
    from lorameta.bank import AdapterBank
    from lorameta.combiner import combine, kernels

    if options.without_numba:
        kernels._compiled = lambda dtype: None
    compile_seconds = seconds(lambda: kernels.compiled("BF16"))
    before = resident()
    opened = AdapterBank.open(bank)
    adapters = [opened.lazy(name) for name in opened.ids]
    weights = weights_of(len(opened))
    size = PARAMETERS * len(opened) * (2 if "bf16" in bank.name else 4) / 1e9
    shards = [adapter.modules.shard for adapter in adapters[::SHARD]]

    def mix() -> None:
        combine(adapters, weights, method="factor", errors=False)

    def read_files() -> None:
        """Every byte of the shards once, the same pieces in as many threads, with a dot product and nothing kept."""

        def one(task: tuple[Any, str]) -> None:
            shard, name = task
            part = shard.raw(name).reshape(-1).view(np.float32)
            for piece in np.array_split(part, max(1, part.nbytes >> 24)):
                np.dot(piece, piece)
            shard.forget(name)

        with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(one, [(shard, name) for shard in shards for name in shard.entries]))

    result: dict[str, Any] = {"adapters": len(opened), "gigabytes": size, "compile_seconds": compile_seconds}
    mix()
    result["peak_gb"] = peak() - before
    result["seconds_with_error"] = seconds(lambda: combine(adapters, weights, method="factor"))
    result["peak_gb_with_error"] = peak() - before
    block = np.random.default_rng(0).random(1 << 28, dtype=np.float32)  # 1 GB, which no cache holds

    def read_memory() -> None:
        with threadpool_limits(1):
            in_halves(lambda part: np.dot(part, part), block)

    read_files()
    times = alternately({"read_memory": read_memory, "read_files": read_files, "mix": mix}, options.rounds)
    rates = {"read_memory": block.nbytes / 1e9 / np.array(times["read_memory"])}
    rates |= {name: size / np.array(times[name]) for name in ("read_files", "mix")}
    return result | {
        "seconds": statistics.median(times["mix"]),
        **{f"{name}_gb_per_second": float(np.median(rate)) for name, rate in rates.items()},
        "share_of_memory_bandwidth": float(np.median(rates["mix"] / rates["read_memory"])),
        "share_of_file_bandwidth": float(np.median(rates["mix"] / rates["read_files"])),
    }


def measure_top(bank: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The exact merge of eight adapters, cut to rank 16, reading included; and how long reading with hashes takes."""
    import lorameta.combiner.randomised  # noqa: F401
    from lorameta.bank import AdapterBank
    from lorameta.combiner import combine
    from lorameta.combiner.parallel import each

    before = resident()
    opened = AdapterBank.open(bank)
    names = [opened.ids[i] for i in np.random.default_rng(2).choice(len(opened), TOP, replace=False)]
    weights = weights_of(TOP)
    merges = [seconds(lambda: combine([opened.lazy(name) for name in names], weights)) for _ in range(options.rounds)]
    found = peak() - before
    whole = [
        seconds(lambda: combine(list(each(opened.__getitem__, names).values()), weights)) for _ in range(options.rounds)
    ]
    return {
        "adapters": len(opened),
        "seconds": statistics.median(merges),
        "seconds_first": merges[0],
        "seconds_with_hashes": statistics.median(whole),
        "peak_gb": found,
        "peak_gb_with_hashes": peak() - before,
    }


def measure_count(bank: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What mixing the first N adapters costs, against N."""
    import lorameta.combiner.randomised  # noqa: F401
    from lorameta.bank import AdapterBank
    from lorameta.combiner import combine, kernels

    kernels.compiled("BF16")
    before = resident()
    opened = AdapterBank.open(bank)
    counts = [count for count in (1, 2, 4, 8, 16, 32, 64, 128, 256) if count < len(opened)] + [len(opened)]
    rows = []
    for count in counts:
        adapters, weights = [opened.lazy(name) for name in opened.ids[:count]], weights_of(count)
        row: dict[str, Any] = {"adapters": count}
        for method in ("factor", "delta"):
            work = partial(combine, adapters, weights, method=method, errors=False)
            row[f"{method}_seconds"] = statistics.median(seconds(work) for _ in range(1 if count > 16 else 3))
        row["peak_gb"] = peak() - before
        rows.append(row)
        print(f"  {row}", file=sys.stderr, flush=True)
    return {"rows": rows}


def measure_check(bank: Path, options: argparse.Namespace) -> dict[str, Any]:
    """`bank check` beside reading the same files and beside hashing them, all in the system's cache."""
    from lorameta.bank import AdapterBank
    from lorameta.files.atomic import sha256_file

    files = sorted((bank / "shards").glob("*.safetensors"))
    size = sum(file.stat().st_size for file in files) / 1e9
    buffer = memoryview(bytearray(1 << 22))

    def read() -> None:
        for file in files:
            with file.open("rb", buffering=0) as stream:
                while stream.readinto(buffer):
                    pass

    def hashed() -> None:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(sha256_file, files))

    read()
    before = resident()
    spent = {"read": seconds(read), "hash": seconds(hashed)}
    report = None

    def check() -> None:
        nonlocal report
        report = AdapterBank.open(bank).check()

    spent["check"] = seconds(check)
    cold = None
    if options.cold and os.access("/proc/sys/vm/drop_caches", os.W_OK):
        cold = {}
        for name, work in (("read", read), ("check", check)):
            Path("/proc/sys/vm/drop_caches").write_text("3")
            cold[name] = seconds(work)
    return {
        "gigabytes": size,
        "seconds": spent,
        "cold_seconds": cold,
        "problems": report.problems,
        "peak_gb": peak() - before,
    }
