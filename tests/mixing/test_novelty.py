import numpy as np
import pytest

from lorameta.distance import distances
from lorameta.encoder import DatasetSummary, Summaries
from lorameta.errors import UsageError
from lorameta.mixing.novelty import cut_down, member_distances, p_value, unusual

VOCABULARY = 200


def dataset(generator: np.random.Generator, rows: int = 200, *, foreign: bool = False) -> DatasetSummary:
    """Token counts of a dataset with a topic of its own; a foreign one lives in another half of the vocabulary."""
    topic = generator.dirichlet(np.full(VOCABULARY // 2, 0.3))
    probabilities = np.concatenate([np.zeros(100), topic] if foreign else [topic, np.zeros(100)])
    return DatasetSummary(rows, token_counts=generator.multinomial(20 * rows, probabilities).astype(np.int64))


def bank_of(summaries: list[DatasetSummary]) -> Summaries:
    return Summaries.from_list([f"task{i}" for i in range(len(summaries))], summaries)


def test_p_value_counts_those_at_least_as_far() -> None:
    reference = np.array([1.0, 2.0, 2.0, 3.0])
    assert [p_value(v, reference) for v in (0.5, 1.0, 2.0, 2.5, 4.0)] == [1.0, 1.0, 0.8, 0.4, 0.2]


def test_member_distances_are_the_off_diagonal_minima() -> None:
    generator = np.random.default_rng(0)
    bank = bank_of([dataset(generator) for _ in range(7)])
    matrix = np.stack([distances(bank[i], bank, "js") for i in bank.ids])
    np.fill_diagonal(matrix, np.inf)
    np.testing.assert_allclose(member_distances(bank, "js"), matrix.min(axis=1))
    assert len(member_distances(bank, "js", members=4)) == 4


def test_a_foreign_dataset_is_outside_and_one_of_the_family_is_not() -> None:
    generator = np.random.default_rng(1)
    bank = bank_of([dataset(generator) for _ in range(30)])
    for foreign in (False, True):
        target = dataset(generator, foreign=foreign)
        found = unusual(target, bank, distances(target, bank, "js"), "js")
        assert found is not None
        assert found.outside == foreign
        assert found.members == 30
        assert found.nearest == bank.ids[int(np.argmin(distances(target, bank, "js")))]


@pytest.mark.parametrize("rows", [5, 200])
def test_p_values_are_uniform_also_for_small_datasets(rows: int) -> None:
    """Exchangeable datasets: the share of p ≤ α is about α, whatever the size of the new dataset."""
    generator = np.random.default_rng(2)
    found = []
    for _ in range(12):
        bank = bank_of([dataset(generator) for _ in range(20)])
        for _ in range(8):
            target = dataset(generator, rows)
            result = unusual(target, bank, distances(target, bank, "js"), "js")
            assert result is not None
            found.append(result.p_value)
    assert abs(np.mean(found) - 0.5) < 0.12
    assert 0.1 < np.mean(np.array(found) <= 0.25) < 0.42


def test_without_cutting_down_small_datasets_would_look_foreign() -> None:
    generator = np.random.default_rng(3)
    bank = bank_of([dataset(generator) for _ in range(20)])
    target = dataset(generator, 3)
    nearest = distances(target, bank, "js").min()
    matched, unmatched = member_distances(bank, "js", like=target), member_distances(bank, "js")
    assert np.median(matched) > np.median(unmatched)
    assert p_value(nearest, matched) > p_value(nearest, unmatched)


def test_cut_down_draws_from_the_histogram_and_from_the_sample() -> None:
    generator = np.random.default_rng(4)
    large, small = dataset(generator, 200), dataset(generator, 10)
    cut = cut_down(large, small, "tokens", generator).part("tokens")[0]
    assert cut.sum() == small.part("tokens")[0].sum()
    assert (cut <= large.part("tokens")[0]).all()
    assert cut_down(small, large, "tokens", generator) is small

    sample = generator.normal(size=(64, 5)).astype(np.float32)
    whole = DatasetSummary(900, mean=sample.mean(0), covariance_factor=np.eye(3, 5, dtype=np.float32),
                           residual_variance=0.1, sample=sample)  # fmt: skip
    few = DatasetSummary(8, mean=sample[0], covariance_factor=np.eye(3, 5, dtype=np.float32), residual_variance=0.0,
                         sample=sample[:8])  # fmt: skip
    cut = cut_down(whole, few, "sentence", generator)
    assert cut.rows == 8
    np.testing.assert_allclose(cut.mean, cut.sample.mean(axis=0), rtol=1e-5)
    assert all((row == sample).all(axis=1).any() for row in cut.sample)
    assert cut_down(few, whole, "sentence", generator) is few


def test_a_bank_of_one_says_nothing_and_wrong_distances_are_refused() -> None:
    generator = np.random.default_rng(5)
    bank = bank_of([dataset(generator)])
    target = dataset(generator)
    assert unusual(target, bank, np.array([0.3]), "js") is None
    with pytest.raises(UsageError, match="2 distances came with a bank of 1"):
        unusual(target, bank, np.array([0.3, 0.4]), "js")


def test_the_same_seed_gives_the_same_answer() -> None:
    generator = np.random.default_rng(6)
    bank, target = bank_of([dataset(generator) for _ in range(90)]), dataset(generator, 20)
    found = distances(target, bank, "js")
    assert unusual(target, bank, found, "js") == unusual(target, bank, found, "js")
    assert unusual(target, bank, found, "js").members == 40  # type: ignore[union-attr]
