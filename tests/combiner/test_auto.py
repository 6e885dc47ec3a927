import numpy as np
import pytest

from lorameta.adapter import Adapter
from lorameta.adapter.lora import LoraPair
from lorameta.bank import AdapterBank
from lorameta.combiner.auto import choose, likeness


def adapters(alike: float, count: int = 5, *, rank: int = 4, scaling: float = 2.0) -> list[Adapter]:
    """A_i = √ρ A_0 + √(1-ρ) E_i, whose expected cosine is ρ."""
    generator = np.random.default_rng(0)
    common = generator.normal(size=(2, rank, 200))
    made = []
    for _ in range(count):
        own = generator.normal(size=(2, rank, 200))
        A = np.sqrt(alike) * common + np.sqrt(1 - alike) * own
        pairs = {f"m{i}": LoraPair(A[i], generator.normal(size=(30, rank)), scaling) for i in range(2)}
        made.append(Adapter(pairs, "base", None, {}, {}))
    return made


@pytest.mark.parametrize("alike", [0.0, 0.3, 0.8, 1.0])
def test_likeness_is_the_mean_cosine(alike):
    assert likeness(adapters(alike)) == pytest.approx(alike, abs=0.04)


def test_shared_starts_take_factor_and_unrelated_ones_delta():
    assert choose(adapters(0.5)) == "factor"
    assert choose(adapters(0.0)) == "delta"
    assert choose(adapters(0.5, 1)) == "delta"


def test_other_ranks_or_scalings_take_delta():
    assert choose([*adapters(1.0), *adapters(1.0, 1, rank=8)]) == "delta"
    assert choose([*adapters(1.0), *adapters(1.0, 1, scaling=1.0)]) == "delta"


def test_the_embedded_bank_shares_its_start():
    bank = AdapterBank.open("embedded")
    assert likeness([bank[name] for name in bank.ids[:8]]) > 0.3
    assert choose([bank[name] for name in bank.ids]) == "factor"
