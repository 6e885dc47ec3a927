"""Banks of Mistral-7B's shape: how fast adapters are mixed, opened and checked, beside what machine and PEFT can do.

    python benchmarks/scale.py --adapters 502 --folder FOLDER

makes a synthetic bank in FOLDER (r = 16 on q, k and v of 32 layers, 9.44 M numbers an adapter; the same numbers for the
same seed), once in bfloat16 and once in float32, and keeps it there. Every measurement runs in a process of its own, so
that its peak memory is its own: the largest resident memory less what was resident after the imports, mapped files
included. Times are of files that are in the system's cache. What is compared with each other is measured alternately.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from common import ROOT, stamp, write
from scale_report import markdown

LAYERS, HIDDEN, NARROW, RANK, ALPHA = 32, 4096, 1024, 16, 32
MODULES = {
    f"model.layers.{layer}.self_attn.{name}": (d_out, HIDDEN)
    for layer in range(LAYERS)
    for name, d_out in (("q_proj", HIDDEN), ("k_proj", NARROW), ("v_proj", NARROW))
}
PARAMETERS = RANK * sum(map(sum, MODULES.values()))
BASE = "mistralai/Mistral-7B-Instruct-v0.2"
SHARD = 64  # adapters a shard: 1.2 GB in bfloat16
TOP = 8


# The synthetic bank


@dataclass(frozen=True)
class Synthetic:
    """One adapter, drawn tensor by tensor when it is written."""

    number: int
    dtype: str

    def rows(self) -> Iterator[tuple[str, str, np.ndarray]]:
        from lorameta.files.tensors import narrow

        for place, name in enumerate(sorted(f"{module}.lora_{half}" for module in MODULES for half in "AB")):
            rng = np.random.default_rng([2026, self.number, place])
            module, _, half = name.rpartition(".")
            d_out, d_in = MODULES[module]
            if half == "lora_A":
                numbers = rng.random((RANK, d_in), dtype=np.float32) * np.float32(2) - np.float32(1)
                numbers *= np.float32(d_in**-0.5)
            else:
                numbers = rng.standard_normal((RANK, d_out), dtype=np.float32)
                numbers *= (np.float32(0.01) * np.float32(0.8) ** np.arange(RANK, dtype=np.float32))[:, None]
            yield name, self.dtype, narrow(numbers, self.dtype)


def make_bank(folder: Path, count: int, dtype: str) -> Path:
    """A stacked bank, its configurations and its summaries; what is there already is left as it is."""
    from lorameta.adapter.peft_format import CONFIG
    from lorameta.bank.records import AdapterRecord, BaseRecord, Manifest
    from lorameta.bank.sharding.shard import write_shard
    from lorameta.encoder import Summaries, TokenCounts

    root = folder / f"{dtype.lower()}-{count}"
    if (root / "bank.json").is_file():
        return root
    shutil.rmtree(root, ignore_errors=True)
    (root / "shards").mkdir(parents=True)
    config = {
        "base_model_name_or_path": BASE, "bias": "none", "lora_alpha": ALPHA, "lora_dropout": 0.0, "peft_type": "LORA",
        "r": RANK, "target_modules": ["k_proj", "q_proj", "v_proj"], "task_type": "CAUSAL_LM",
    }  # fmt: skip
    from lorameta.files.atomic import sha256

    text = (json.dumps(config, indent=2) + "\n").encode()
    ids = [f"task{number:04d}" for number in range(count)]
    names = sorted(f"{module}.lora_{half}" for module in MODULES for half in "AB")
    layout = tuple((name, dtype, (RANK, MODULES[name[:-7]][1 if name.endswith("A") else 0])) for name in names)
    shards, records = {}, []
    for start in range(0, count, SHARD):
        some = ids[start : start + SHARD]
        path = root / "shards" / "new.safetensors"
        adapters = (Synthetic(number, dtype) for number in range(start, start + len(some)))
        entry, digests = write_shard(path, some, layout, adapters)
        name = f"shards/{entry['sha256'][:16]}.safetensors"
        path.rename(root / name)
        shards[name] = entry
        for row, (one, digest) in enumerate(zip(some, digests, strict=True)):
            (root / "adapters" / one).mkdir(parents=True)
            (root / "adapters" / one / CONFIG).write_bytes(text)
            records.append(
                AdapterRecord(
                    one, one, "synthetic", licence="none", rank=RANK, alpha=ALPHA, rslora=False,
                    targets=("k_proj", "q_proj", "v_proj"), path=f"adapters/{one}", sha256=digest,
                    config_sha256=sha256(text), bytes=PARAMETERS * (2 if dtype == "BF16" else 4), shard=name, row=row,
                    row_sha256=digest,
                )
            )  # fmt: skip
        print(f"  {dtype} {start + len(some)} of {count}", file=sys.stderr, flush=True)
    rng = np.random.default_rng(0)
    counts = (np.bincount(rng.zipf(1.3, 4000) % 32000, minlength=32000) for _ in ids)
    summaries = Summaries(tuple(ids), np.full(count, 200), TokenCounts.stack(counts, 32000))
    data = summaries.save(root / "summaries.safetensors").read_bytes()
    found = {"file": "summaries.safetensors", "sha256": sha256(data), "bytes": len(data)}
    manifest = Manifest("synthetic", BaseRecord(BASE), found, tuple(records), shards=shards)
    (root / "bank.json").write_text(json.dumps(manifest.as_dict(), indent=1))
    return root


def warm(bank: Path) -> None:
    """Have the shards in the system's cache as they come from the disk: read in order, not as they were written."""
    buffer = memoryview(bytearray(1 << 24))
    for file in sorted((bank / "shards").glob("*.safetensors")):
        with file.open("rb", buffering=0) as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while stream.readinto(buffer):
                pass


# Measurements, each in a process of its own


def resident() -> float:
    """Resident memory now, GB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e9


def peak() -> float:
    """Largest resident memory of this process so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_halves(work: Callable[[np.ndarray], Any], array: np.ndarray) -> None:
    """One thread a core, each with its part."""
    count = os.cpu_count() or 1
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, np.array_split(array, count)))


def alternately(works: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(seconds(work))
    return times


def weights_of(count: int) -> np.ndarray:
    return np.random.default_rng(1).dirichlet(np.ones(count))


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


def measure_peft(bank: Path, options: argparse.Namespace) -> dict[str, Any]:
    """PEFT's add_weighted_adapter and lorameta on the same eight adapters of the first `--peft-layers` layers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import MistralConfig, MistralForCausalLM

    from lorameta.adapter import Adapter
    from lorameta.bank import AdapterBank
    from lorameta.combiner import combine

    opened = AdapterBank.open(bank)
    names = [opened.ids[i] for i in np.random.default_rng(2).choice(len(opened), TOP, replace=False)]
    weights = weights_of(TOP)
    layers = options.peft_layers
    modules = [module for module in MODULES if int(module.split(".")[2]) < layers]
    adapters = [
        Adapter({module: whole.modules[module] for module in modules}, BASE, name=name)
        for name in names
        for whole in [opened.lazy(name)]
    ]
    config = MistralConfig(
        vocab_size=64, hidden_size=HIDDEN, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128,
    )  # fmt: skip
    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["q_proj", "k_proj", "v_proj"])
    model = get_peft_model(MistralForCausalLM(config), lora, adapter_name=names[0])
    for name in names[1:]:
        model.add_adapter(name, lora)
    layer_of = {module: model.get_submodule(f"base_model.model.{module}") for module in modules}
    with torch.no_grad():
        for adapter in adapters:
            for module, pair in adapter.modules.items():
                layer_of[module].lora_A[adapter.name].weight.copy_(torch.from_numpy(pair.A))
                layer_of[module].lora_B[adapter.name].weight.copy_(torch.from_numpy(pair.B))

    exact, best = {}, {}
    for module in modules:
        exact[module] = sum(
            w * a.modules[module].scaling * a.modules[module].B.astype(float) @ a.modules[module].A.astype(float)
            for w, a in zip(weights, adapters, strict=True)
        )
        best[module] = np.sqrt(np.square(np.linalg.svd(exact[module], compute_uv=False)[RANK:]).sum())

    def error(update: Callable[[str], np.ndarray]) -> float:
        """‖made − Σ w ΔW‖ / ‖Σ w ΔW‖ over all modules, against the dense sum in float64."""
        gap = sum(np.square(update(module) - exact[module]).sum() for module in modules)
        return float(np.sqrt(gap / sum(np.square(one).sum() for one in exact.values())))

    ours: list[float] = []

    def lorameta() -> None:
        nonlocal made
        made = combine(adapters, weights, rank=RANK)[0]

    made: dict[str, Any] = {}
    lorameta()
    rows = {}
    for kind in ("svd", "linear", "cat"):
        extra = {"svd_rank": RANK} if kind == "svd" else {}
        ours += [seconds(lorameta) for _ in range(3)]
        spent = seconds(
            lambda kind=kind, extra=extra: model.add_weighted_adapter(
                names, weights.tolist(), kind, combination_type=kind, **extra
            )
        )
        ours += [seconds(lorameta) for _ in range(3)]

        def peft_update(module: str, kind: str = kind) -> np.ndarray:
            layer = layer_of[module]
            A, B = (half[kind].weight.detach().double().numpy() for half in (layer.lora_A, layer.lora_B))
            return layer.scaling[kind] * B @ A

        rows[kind] = {
            "seconds": spent,
            "error": error(peft_update),
            "rank": layer_of[modules[0]].lora_A[kind].out_features,
        }
        model.delete_adapter(kind)
    spent = statistics.median(ours)
    whole = {"layers": layers, "modules": len(modules)}
    mine = {"seconds": spent, "error": error(lambda m: made[m].B.astype(float) @ made[m].A.astype(float))}
    best_error = float(np.sqrt(sum(b**2 for b in best.values()) / sum(np.square(one).sum() for one in exact.values())))
    for row in rows.values():
        row["times_slower"] = row["seconds"] / spent
        row["seconds_for_all_layers"] = row["seconds"] * LAYERS / layers
    return whole | {"lorameta": mine, "peft": rows, "best_possible_error": best_error}


def measure_matrix(bank: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The paper's way: all adapters as rows of one float32 matrix, and one product with the weights."""
    from lorameta.bank import AdapterBank

    before = resident()
    facts = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) for line in facts if line.startswith("MemAvailable"))
    opened = AdapterBank.open(bank)
    count = min(len(opened), int((available * 1024 / 1e9 - options.spare) * 1e9 // (4 * PARAMETERS)))
    matrix = np.empty((count, PARAMETERS), dtype=np.float32)

    def load() -> None:
        for row, name in zip(matrix, opened.ids, strict=False):
            start = 0
            for pair in opened.lazy(name).modules.values():
                for part in (pair.A, pair.B):
                    row[start : start + part.size] = part.reshape(-1)
                    start += part.size

    loaded = seconds(load)
    weights = weights_of(count).astype(np.float32)
    products = [seconds(lambda: weights @ matrix) for _ in range(3)]
    return {
        "adapters": count,
        "load_seconds": loaded,
        "product_seconds": statistics.median(products),
        "peak_gb": peak() - before,
    }


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


MEASURES: dict[str, Callable[[Path, argparse.Namespace], dict[str, Any]]] = {
    "open": measure_open,
    "dense": measure_dense,
    "top": measure_top,
    "count": measure_count,
    "peft": measure_peft,
    "matrix": measure_matrix,
    "check": measure_check,
}


def in_its_own_process(measure: str, bank: Path, arguments: list[str]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", measure, "--bank", str(bank), *arguments]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    result = json.loads(done.stdout.splitlines()[-1])
    print(f"{measure} {bank.name}: {json.dumps(result)[:600]}", flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapters", type=int, default=502)
    parser.add_argument("--folder", type=Path, help="where the synthetic banks are made and kept")
    parser.add_argument("--dtypes", nargs="*", default=["BF16", "F32"], choices=["BF16", "F16", "F32"])
    parser.add_argument("--only", nargs="*", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--name", default="scale", help="of the file in benchmarks/results")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peft-layers", type=int, default=1)
    parser.add_argument("--spare", type=float, default=3.0, help="GB left free by the paper's way")
    parser.add_argument("--cold", action="store_true", help="also drop the system's cache (needs root)")
    parser.add_argument("--without-numba", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    parser.add_argument("--bank", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(MEASURES[options.measure](options.bank, options)))
        return
    if options.folder is None:
        parser.error("--folder is needed: some gigabytes go there")
    found = stamp({"data": options.folder})
    handed = ["--rounds", str(options.rounds), "--peft-layers", str(options.peft_layers), "--spare", str(options.spare)]
    handed += ["--cold"] * options.cold
    results: dict[str, Any] = {}
    for dtype in options.dtypes:
        bank = make_bank(options.folder, options.adapters, dtype)
        warm(bank)
        for name in options.only:
            if dtype != options.dtypes[0] and name not in ("open", "dense"):
                continue
            results.setdefault(dtype, {})[name] = in_its_own_process(name, bank, handed)
            if name == "dense" and dtype != "F32":
                found_without = in_its_own_process(name, bank, [*handed, "--without-numba"])
                results[dtype]["dense_without_numba"] = found_without
    result = found | {"parameters": PARAMETERS, "modules": len(MODULES), "results": results}
    write(options.name, result, markdown(result))


if __name__ == "__main__":
    main()
