"""Mixing adapters that stay in their files: random banks, as directories and stacked, against a dense oracle."""

from __future__ import annotations

import json
import math
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from lorameta.bank import AdapterBank, AdapterRecord, BaseRecord, write_bank
from lorameta.bank.sharding.stack import stack as stack_bank
from lorameta.combiner import combine, kernels
from lorameta.combiner import terms as terms_module
from lorameta.encoder import Summaries
from lorameta.errors import BankError

SHAPES = {"m.0.q": (14, 12), "m.0.k": (6, 12), "m.1.down": (12, 16)}
METHODS = ("delta", "concat")


@dataclass
class Spec:
    """What one adapter of a random bank is made of."""

    seed: int
    rank: int
    alpha: float
    rslora: bool
    dtype: str
    modules: tuple[str, ...]
    updates: dict[str, np.ndarray] = field(default_factory=dict)

    def write(self, directory: Path) -> None:
        """A PEFT directory; the oracle's ΔW come from what it holds, in float64 and by arithmetic of their own."""
        import torch

        rng = np.random.default_rng(self.seed)
        kind = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}[self.dtype]
        scaling = self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)
        tensors = {}
        for module in self.modules:
            d_out, d_in = SHAPES[module]
            A, B = (torch.from_numpy(rng.normal(size=s)).to(kind) for s in ((self.rank, d_in), (d_out, self.rank)))
            self.updates[module] = scaling * np.einsum("or,ri->oi", B.double().numpy(), A.double().numpy())
            tensors[f"base_model.model.{module}.lora_A.weight"] = A
            tensors[f"base_model.model.{module}.lora_B.weight"] = B
        directory.mkdir(parents=True)
        from safetensors.torch import save_file as save_torch

        save_torch(tensors, directory / "adapter_model.safetensors", metadata={"format": "pt"})
        config = {
            "base_model_name_or_path": "some/base", "lora_alpha": self.alpha, "peft_type": "LORA", "r": self.rank,
            "target_modules": list(self.modules), "use_rslora": self.rslora,
        }  # fmt: skip
        (directory / "adapter_config.json").write_text(json.dumps(config))


def make_bank(root: Path, specs: list[Spec]) -> AdapterBank:
    ids = [f"a{number:02d}" for number in range(len(specs))]
    for name, spec in zip(ids, specs, strict=True):
        spec.write(root / "adapters" / name)
    summaries = Summaries(tuple(ids), np.ones(len(ids), dtype=np.int64))
    records = [AdapterRecord(name, name, "") for name in ids]
    write_bank(root, name="random", base=BaseRecord("some/base"), summaries=summaries, records=records)
    return AdapterBank.open(root)


SPECS = st.builds(
    Spec,
    seed=st.integers(0, 2**31),
    rank=st.integers(1, 6),
    alpha=st.sampled_from([1.0, 8.0, 16.0]),
    rslora=st.booleans(),
    dtype=st.sampled_from(["BF16", "F16", "F32"]),
    modules=st.sets(st.sampled_from(sorted(SHAPES)), min_size=1).map(lambda names: tuple(sorted(names))),
)


def oracle(specs: list[Spec], weights: np.ndarray) -> dict[str, np.ndarray]:
    total: dict[str, np.ndarray] = {}
    for spec, weight in zip(specs, weights, strict=True):
        for module, update in spec.updates.items():
            total[module] = total.get(module, 0.0) + weight * update
    return total


def update(pair) -> np.ndarray:
    return pair.scaling * pair.B.astype(np.float64) @ pair.A.astype(np.float64)


def assert_close(made, wanted: np.ndarray, scale: float, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(made, wanted, rtol=0, atol=tolerance * scale)


def lazily(bank: AdapterBank) -> list:
    return [bank.lazy(name) for name in bank.ids]


@settings(max_examples=12, deadline=None)
@given(st.lists(SPECS, min_size=1, max_size=7), st.integers(0, 2**31), st.integers(1, 12))
def test_random_banks_against_a_dense_oracle(specs, seed, rank):
    """Any ranks, alphas, dtypes, rslora and missing modules; from directories and from shards; the invariants hold."""
    weights = np.random.default_rng(seed).dirichlet(np.ones(len(specs)))
    with tempfile.TemporaryDirectory() as folder:
        bank = make_bank(Path(folder) / "bank", specs)
        found = [combine(lazily(bank), weights, method=method, rank=rank) for method in METHODS]
        stack_bank(bank.path)
        stacked = AdapterBank.open(bank.path)
        assert all(stacked.lazy(name).modules.shard is not None for name in stacked.ids)
        again = [combine(lazily(stacked), weights, method=method, rank=rank) for method in METHODS]
        hot = int(np.argmax(weights))
        single = combine(lazily(stacked), np.eye(len(specs))[hot])[0]
    wanted = oracle(specs, weights)
    largest = {
        module: max(np.linalg.norm(spec.updates.get(module, np.zeros(1))) for spec in specs) for module in wanted
    }
    for (modules, errors), (others, other_errors), method in zip(found, again, METHODS, strict=True):
        assert list(modules) == list(others) == sorted(wanted)
        for module, matrix in wanted.items():
            singular = np.linalg.svd(matrix, compute_uv=False)
            cut = singular[rank:] if method == "delta" else singular[:0]
            lost = float(np.linalg.norm(cut))
            size = float(np.linalg.norm(matrix))
            assert errors[module] == pytest.approx(lost / size, abs=1e-6)
            assert other_errors[module] == pytest.approx(errors[module], abs=1e-9)
            assert np.linalg.norm(update(modules[module]) - matrix) == pytest.approx(lost, abs=1e-5 * largest[module])
            assert np.linalg.norm(update(modules[module])) <= largest[module] * (1 + 1e-5)
            assert_close(update(others[module]), update(modules[module]), largest[module])
    for module, matrix in specs[hot].updates.items():
        assert_close(update(single[module]), matrix, np.abs(matrix).max())


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("compiler", ["numba", "numpy"])
def test_factor_sums_rows_of_shards(tmp_path, monkeypatch, dtype, compiler):
    """All adapters, and a subset with gaps, in pieces of a few rows; by both ways of adding."""
    if compiler == "numba":
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr(kernels, "numba_kernel", lambda dtype: None)
    monkeypatch.setattr(sys.modules["lorameta.combiner.average"], "COMPILE_FROM", 0)
    monkeypatch.setattr(terms_module, "BLOCK_BYTES", 1000)
    specs = [Spec(seed, 3, 6.0, False, dtype, tuple(sorted(SHAPES))) for seed in range(13)]
    bank = make_bank(tmp_path / "bank", specs)
    eager = {name: bank[name] for name in bank.ids}
    stack_bank(bank.path)
    bank = AdapterBank.open(bank.path)
    for ids in (bank.ids, bank.ids[:1], bank.ids[2:4] + bank.ids[5:]):
        weights = np.random.default_rng(4).dirichlet(np.ones(len(ids)))
        modules, errors = combine([bank.lazy(name) for name in ids], weights, method="factor")
        for module, pair in modules.items():
            A, B = (
                sum(
                    w * getattr(eager[n].modules[module], half).astype(float) for w, n in zip(weights, ids, strict=True)
                )
                for half in "AB"
            )
            assert_close(update(pair), 2.0 * B @ A, np.abs(B @ A).max())
            target = sum(w * specs[bank.ids.index(n)].updates[module] for w, n in zip(weights, ids, strict=True))
            gap = np.linalg.norm(2.0 * B @ A - target) / np.linalg.norm(target)
            assert errors[module] == pytest.approx(gap, abs=2e-6)


def test_half_precision_to_the_last_bit_by_numba():
    """Subnormals, signed zeros and the largest numbers of float16 and bfloat16, one weight of 1 at a time."""
    pytest.importorskip("numba")
    bits = np.arange(2**16, dtype=np.uint16)
    for dtype, wide in (
        ("F16", bits.view(np.float16).astype(np.float32)),
        ("BF16", (bits.astype(np.uint32) << 16).view(np.float32)),
    ):
        kept = np.isfinite(wide)
        total = np.zeros(kept.sum(), np.float32)
        kernels.compiled(dtype)(bits[None, kept], np.ones(1, np.float32), total)
        np.testing.assert_array_equal(total, wide[kept])


def wide_bank(rank: int = 5, count: int = 9, decay: float = 0.6) -> list:
    """Adapters in memory whose summed rank exceeds both dimensions, with a falling spectrum."""
    from lorameta.adapter import Adapter, LoraPair

    found = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        A, B = rng.normal(size=(rank, 30)), rng.normal(size=(40, rank)) * decay ** np.arange(rank)
        found.append(Adapter({"m": LoraPair(A, B, 1.5)}, "base", name=f"w{seed}"))
    return found


def test_the_randomised_cut_is_as_good_as_the_best_and_says_how_good(monkeypatch):
    adapters = wide_bank()
    weights = np.random.default_rng(0).dirichlet(np.ones(len(adapters)))
    matrix = sum(w * update(a.modules["m"]) for w, a in zip(weights, adapters, strict=True))
    singular = np.linalg.svd(matrix, compute_uv=False)
    for rank in (1, 4, 8, 30):
        monkeypatch.undo()
        exact, exact_error = combine(adapters, weights, rank=rank)
        monkeypatch.setattr(sys.modules["lorameta.combiner.delta"], "EXACT_RANK", 8)
        modules, errors = combine(adapters, weights, rank=rank)
        best = float(np.linalg.norm(singular[rank:]) / np.linalg.norm(singular))
        achieved = float(np.linalg.norm(update(modules["m"]) - matrix) / np.linalg.norm(matrix))
        assert exact_error["m"] == pytest.approx(best, abs=1e-7)
        assert achieved <= best * 1.005 + 1e-6
        assert errors["m"] == pytest.approx(achieved, rel=0.05, abs=1e-5)
        assert modules["m"].rank == exact["m"].rank == rank
        assert modules["m"].A.tobytes() == combine(adapters, weights, rank=rank)[0]["m"].A.tobytes()


def test_the_estimated_gap_of_the_average(monkeypatch):
    adapters = wide_bank()
    weights = np.full(len(adapters), 1 / len(adapters))
    _, exact = combine(adapters, weights, method="factor")
    monkeypatch.setattr(sys.modules["lorameta.combiner.factor"], "EXACT_PRODUCTS", 0)
    _, estimated = combine(adapters, weights, method="factor")
    assert estimated["m"] == pytest.approx(exact["m"], rel=0.1)
    assert estimated["m"] != exact["m"]
    _, skipped = combine(adapters, weights, method="factor", errors=False)
    assert np.isnan(skipped["m"])


def test_terms_that_nearly_cancel_keep_their_digits():
    """The sum is 1e-6 of its terms: the Gram matrices alone would lose it, so QR has to take over."""
    from lorameta.adapter import Adapter, LoraPair

    rng = np.random.default_rng(0)
    A, B, E = rng.normal(size=(4, 90)), rng.normal(size=(80, 4)), rng.normal(size=(80, 4))
    B = B.astype(np.float32)
    near = (B + np.float32(1e-6) * E.astype(np.float32)).astype(np.float32)
    pair, other = LoraPair(A, near), LoraPair(A, B)
    matrix = (near.astype(float) - B.astype(float)) @ pair.A.astype(float)
    modules, errors = combine([Adapter({"m": pair}, "base"), Adapter({"m": other}, "base")], [1.0, -1.0], rank=2)
    U, S, Vt = np.linalg.svd(matrix)
    assert_close(update(modules["m"]), (U[:, :2] * S[:2]) @ Vt[:2], np.abs(matrix).max(), 1e-6)
    assert errors["m"] == pytest.approx(np.linalg.norm(S[2:]) / np.linalg.norm(S), rel=1e-5)


def test_badly_scaled_factors_keep_their_digits():
    """(A, B) and (DA, BD⁻¹) with D over twelve decades are one update."""
    from lorameta.adapter import Adapter, LoraPair

    rng = np.random.default_rng(1)
    decades = np.float32(10.0) ** np.linspace(-6, 6, 5)
    adapters = [
        Adapter(
            {"m": LoraPair(decades[:, None] * rng.normal(size=(5, 70)), rng.normal(size=(60, 5)) / decades)}, "base"
        )
        for _ in range(3)
    ]
    matrix = sum(update(a.modules["m"]) for a in adapters) / 3
    modules, errors = combine(adapters, np.full(3, 1 / 3), rank=6)
    U, S, Vt = np.linalg.svd(matrix)
    assert_close(update(modules["m"]), (U[:, :6] * S[:6]) @ Vt[:6], np.abs(matrix).max(), 1e-6)
    assert errors["m"] == pytest.approx(np.linalg.norm(S[6:]) / np.linalg.norm(S), rel=1e-6)


@pytest.mark.parametrize("method", ["delta", "factor", "concat"])
def test_numbers_that_are_none_are_named(method):
    from lorameta.adapter import Adapter, LoraPair

    good, bad = LoraPair(np.ones((2, 9)), np.ones((8, 2))), LoraPair(np.full((2, 9), np.nan), np.ones((8, 2)))
    adapters = [Adapter({"m": good}, "base", name="fine"), Adapter({"m": bad}, "base", name="broken")]
    with pytest.raises(BankError, match=r"m: NaN or infinite values in broken; run lorameta bank check"):
        combine(adapters, [0.5, 0.5], method=method)


def test_a_damaged_row_is_named(tmp_path):
    """A NaN that got into a shard is found where the row is mixed in, also when nothing was hashed."""
    tensors = {
        f"base_model.model.m.0.q.lora_{half}.weight": np.ones(shape, np.float32)
        for half, shape in (("A", (3, 12)), ("B", (14, 3)))
    }
    specs = [Spec(seed, 3, 6.0, False, "F32", ("m.0.q",)) for seed in range(3)]
    bank = make_bank(tmp_path / "bank", specs)
    lazy = lazily(bank)
    tensors["base_model.model.m.0.q.lora_A.weight"][1, 2] = np.inf
    save_file(tensors, bank.path / "adapters" / "a01" / "adapter_model.safetensors")
    with pytest.raises(BankError, match="a01"):
        combine([lazy[0], AdapterBank.open(bank.path).lazy("a01"), lazy[2]], [0.4, 0.3, 0.3])
