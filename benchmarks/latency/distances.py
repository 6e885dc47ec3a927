"""One dataset against a bank of 502, by every distance, in milliseconds; beside it the plain way, pair by pair.

python -m benchmarks.latency.distances

The summaries are drawn: token counts from laws like Zipf's, sentence embeddings from normal laws. The plain way is
that of the paper's code: a histogram of the raw token ids and scipy's entropy, scipy's Wasserstein distance of the
two lists of ids, full kernel matrices between 1000 ids drawn from either side. What belongs to the new dataset alone
is not timed. It is run on some pairs, and its time scaled to the bank.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import entropy, wasserstein_distance

from benchmarks.common import stamp, write
from lorameta.distance import DISTANCES, distances
from lorameta.distance.kernel import kernel
from lorameta.distance.mmd import _spectrum
from lorameta.distance.sliced import directions
from lorameta.encoder import DatasetSummary, Summaries
from lorameta.encoder.sentence import moments

DIMENSION, FACTORS, SAMPLE, SAMPLED_IDS = 384, 32, 64, 1000
Plain = Callable[[DatasetSummary], float]


def draw(generator: np.random.Generator, vocabulary: int, rows: int, row_tokens: int) -> DatasetSummary:
    """A dataset: its tokens are Zipf's with a preference of its own, its embeddings unit vectors about a mean."""
    weights = (np.arange(vocabulary) + 2.7) ** -1.07 * np.exp(1.5 * generator.normal(size=vocabulary))
    counts = generator.multinomial(rows * row_tokens, weights / weights.sum())
    points = generator.normal(size=DIMENSION) + generator.normal(size=(SAMPLE, DIMENSION))
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    mean, factor, residual = moments(points, FACTORS)
    return DatasetSummary(rows, counts, mean, factor, residual, points)


def seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    found = function()
    return time.perf_counter() - begun, found


def ours(target: DatasetSummary, bank: Summaries, name: str, times: int) -> tuple[float, float, np.ndarray]:
    """Median seconds of the first call on a bank, of later calls, and the distances."""
    first, later, found = [], [], np.empty(0)
    for _ in range(3):
        directions.cache_clear()
        _spectrum.cache_clear()
        fresh = bank.select(bank.ids)  # nothing is known of it yet
        first.append(seconds(lambda fresh=fresh: distances(target, fresh, name))[0])
    for _ in range(times):
        spent, found = seconds(lambda: distances(target, fresh, name))
        later.append(spent)
    return statistics.median(first), statistics.median(later), found


def plain_ways(target: DatasetSummary, vocabulary: int, generator: np.random.Generator) -> dict[str, Plain]:
    """Distance → function of one dataset of the bank, as one writes it first."""
    tokens: dict[int, np.ndarray] = {}

    def ids(summary: DatasetSummary) -> np.ndarray:
        """The raw token ids, in any order; made before the clock runs."""
        if id(summary) not in tokens:
            tokens[id(summary)] = generator.permutation(np.repeat(np.arange(vocabulary), summary.token_counts))
        return tokens[id(summary)]

    def density(summary: DatasetSummary) -> np.ndarray:
        return np.histogram(ids(summary), bins=vocabulary, range=(0, vocabulary), density=True)[0] + 1e-10

    def js(summary: DatasetSummary) -> float:
        q = density(summary)
        return float(entropy(p, (p + q) / 2) + entropy(q, (p + q) / 2)) / 2

    def mmd(summary: DatasetSummary) -> float:
        some = sampled(summary)
        return float(k_ids - 2 * kernel((some_ids - some.T) ** 2).mean() + kernel((some - some.T) ** 2).mean())

    def sampled(summary: DatasetSummary) -> np.ndarray:
        return generator.choice(ids(summary), SAMPLED_IDS).astype(float)[:, None]

    def energy(summary: DatasetSummary) -> float:
        y = summary.sample.astype(float)
        return float(np.sqrt(2 * cdist(x, y).mean() - lengths - cdist(y, y).mean()))

    def sentence_mmd(summary: DatasetSummary) -> float:
        y = summary.sample.astype(float)
        return float(k_rows - 2 * kernel(cdist(x, y) ** 2).mean() + kernel(cdist(y, y) ** 2).mean())

    p, some_ids, x = density(target), sampled(target), target.sample.astype(float)
    k_ids, k_rows = kernel((some_ids - some_ids.T) ** 2).mean(), kernel(cdist(x, x) ** 2).mean()
    lengths = cdist(x, x).mean()
    ways: dict[str, Plain] = {
        "js": js,
        "kl": lambda summary: float(entropy(p, density(summary))),
        "wasserstein": lambda summary: float(wasserstein_distance(ids(target), ids(summary))),
        "mmd": mmd,
        "energy": energy,
        "sentence_mmd": sentence_mmd,
    }
    os.environ.setdefault("POT_BACKEND_DISABLE_PYTORCH", "1")  # it would take seconds to import
    try:
        import ot
    except ImportError:
        return ways
    along = directions(DIMENSION)
    ways["sliced"] = lambda summary: float(
        ot.sliced_wasserstein_distance(x, summary.sample.astype(float), projections=along, p=2)
    )
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", type=int, default=502)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--rows", type=int, default=900, help="of a dataset")
    parser.add_argument("--row-tokens", type=int, default=60, help="tokens of a row")
    parser.add_argument("--pairs", type=int, default=30, help="on which the plain way is timed")
    parser.add_argument("--times", type=int, default=11)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = np.random.default_rng(options.seed)
    shape = (options.vocabulary, options.rows, options.row_tokens)
    target, *others = (draw(generator, *shape) for _ in range(options.datasets + 1))
    bank = Summaries.from_list([f"dataset {i}" for i in range(options.datasets)], others)
    ways = plain_ways(target, options.vocabulary, generator)
    some = others[:: max(1, len(others) // options.pairs)][: options.pairs]
    chosen = [others.index(summary) for summary in some]
    for summary in some:
        ways["js"](summary)  # makes the raw ids, and wakes scipy up

    found: dict[str, dict[str, Any]] = {}
    for name in DISTANCES:
        first, later, values = ours(target, bank, name, options.times)
        row: dict[str, Any] = {"first_call_ms": round(1e3 * first, 2), "later_calls_ms": round(1e3 * later, 2)}
        if name in ways:
            spent, plain = seconds(lambda name=name: np.array([ways[name](summary) for summary in some]))
            scaled = spent / len(some) * len(others)
            off = np.abs(values[chosen] - plain)
            row["plain"] = {
                "pairs": len(some),
                "ms_a_pair": round(1e3 * spent / len(some), 3),
                "seconds_scaled_to_the_bank": round(scaled, 3),
                "times_the_first_call": round(scaled / first, 1),
                "times_a_later_call": round(scaled / later, 1),
                "largest_deviation": float(f"{off.max():.2g}"),
                "largest_relative_deviation": float(f"{(off / plain).max():.2g}"),
            }
        found[name] = row
    counts = bank.token_counts
    held = (counts.indptr.nbytes + counts.token_ids.nbytes + counts.counts.nbytes) / 1e6
    result = stamp() | {
        "datasets": options.datasets,
        "vocabulary": options.vocabulary,
        "tokens_of_a_dataset": options.rows * options.row_tokens,
        "distinct_tokens_of_a_dataset": round(len(counts.counts) / len(counts)),
        "token_counts_mb": {"held": round(held, 1), "dense": round(8e-6 * options.datasets * options.vocabulary, 1)},
        "sample": [SAMPLE, DIMENSION],
        "sampled_ids_of_the_plain_mmd": SAMPLED_IDS,
        "times": options.times,
        "distances": found,
    }
    text = markdown(result)
    write("distances", result, text)
    print(text)


def markdown(result: dict[str, Any]) -> str:
    lines = [
        "| distance | first call, ms | later calls, ms | plain way, s | times the first call | times a later call "
        "| they differ by at most |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in result["distances"].items():
        cells = [name, f"{row['first_call_ms']:.1f}", f"{row['later_calls_ms']:.1f}"]
        if plain := row.get("plain"):
            cells += [f"{plain['seconds_scaled_to_the_bank']:.2f}", f"{plain['times_the_first_call']:.0f}"]
            cells += [f"{plain['times_a_later_call']:.0f}", f"{plain['largest_relative_deviation']:.0e}"]
        lines.append("| " + " | ".join(cells + [""] * (7 - len(cells))) + " |")
    held, pairs = result["token_counts_mb"], result["distances"]["js"]["plain"]["pairs"]
    return (
        f"# Distances: one dataset against {result['datasets']}\n\n"
        f"Made by `{result['command']}` at commit {result['commit'][:10]} on {result['machine']}.\n\n"
        f"Drawn datasets: {result['tokens_of_a_dataset']:,} tokens each, the vocabulary has {result['vocabulary']:,}, "
        f"of which a dataset uses {result['distinct_tokens_of_a_dataset']:,}; {result['sample'][0]} embeddings of "
        f"{result['sample'][1]} numbers. The bank's token counts take {held['held']:g} MB; dense they would take "
        f"{held['dense']:g} MB.\n\n"
        f"The first call on a bank finds what depends on the bank alone. The plain way goes pair by pair (histograms "
        f"and scipy on the raw token ids; {result['sampled_ids_of_the_plain_mmd']} ids a side for mmd, which is why "
        "that differs; scipy's pairwise distances and POT on embeddings); it was timed on "
        f"{pairs} pairs and scaled.\n\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    main()
