"""Which adapters started alike, from sketches: their inner products are the cosines of the whole factors."""

from __future__ import annotations

import numpy as np
import pytest

from lorameta.adapter.shared_init import MODULES, WIDTH, groups, looked_at, sketch
from tests.counting import calls_of


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.vdot(x, y) / np.linalg.norm(x) / np.linalg.norm(y))


def test_small_factors_are_their_own_sketch():
    x, y = np.random.default_rng(0).normal(size=(2, 8, 64)).astype(np.float32)
    assert sketch(x).shape == (WIDTH,)
    assert float(sketch(x) @ sketch(y)) == pytest.approx(cosine(x, y), abs=1e-6)
    assert not sketch(np.zeros((2, 3), np.float32)).any()


@pytest.mark.parametrize("shape", [(16, 4096), (16, 1000), (3, 173)])
@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_sketches_estimate_cosines_without_bias(shape, offset):
    """Also where all entries have a common part, which would add up if the signs were not random."""
    rng = np.random.default_rng(1)
    common = rng.normal(size=shape)
    errors = []
    for seed in range(40):
        own = np.random.default_rng(seed)
        x, y = (offset + 0.7 * common + own.normal(size=shape) for _ in range(2))
        errors.append(float(sketch(x.astype(np.float32)) @ sketch(y.astype(np.float32))) - cosine(x, y))
    assert abs(np.mean(errors)) < 5 / np.sqrt(WIDTH)  # one common part and one set of signs: no average of 40
    assert np.abs(errors).max() < 7 / np.sqrt(WIDTH)


def test_a_common_part_alone_is_no_likeness():
    x, y = (np.random.default_rng(seed).normal(size=(16, 4096)) + 0.1 for seed in (1, 2))
    assert cosine(x, y) == pytest.approx(0.01, abs=0.01)
    assert abs(float(sketch(x.astype(np.float32)) @ sketch(y.astype(np.float32)))) < 0.2


def test_modules_are_spread_evenly():
    names = [f"layer.{i:02d}" for i in range(96)]
    chosen = looked_at(names[::-1])
    assert len(chosen) == MODULES
    assert (chosen[0], chosen[-1]) == (names[0], names[-1])
    assert looked_at(names[:3]) == tuple(names[:3])
    assert looked_at([]) == ()


def test_groups_are_the_adapters_of_one_start():
    """Three starts, and adapters of none; those of another layout are not compared."""
    starts = np.random.default_rng(0).normal(size=(3, MODULES, 2048))
    sketches, layouts, kinds = {}, {}, {}
    for i in range(60):
        own = np.random.default_rng(100 + i).normal(size=(MODULES, 2048))
        kind = i % 4
        whole = own if kind == 3 else starts[kind] + own
        name = f"a{i:02d}"
        sketches[name], layouts[name] = [sketch(part.astype(np.float32)) for part in whole], i in (0, 4)
        kinds.setdefault((kind, i in (0, 4)), []).append(name)
    found = groups(sketches, layouts)
    expected = {tuple(names) for (kind, _), names in kinds.items() if kind < 3 and len(names) > 1}
    assert {group.ids for group in found} == expected
    for group in found:
        assert group.cosine == pytest.approx(0.5, abs=0.02)
    assert [len(group.ids) for group in found] == sorted((len(group.ids) for group in found), reverse=True)


def test_all_pairs_of_a_bank_of_502_are_compared_at_once():
    """The calls grow with the adapters, not with their pairs."""
    rng = np.random.default_rng(0)
    sketches = {
        f"a{i}": list(rng.normal(size=(MODULES, WIDTH)).astype(np.float32) / np.sqrt(WIDTH)) for i in range(502)
    }
    half = dict(list(sketches.items())[:251])
    assert groups(sketches, dict.fromkeys(sketches, 0)) == []
    few, many = (calls_of(lambda some=some: groups(some, dict.fromkeys(some, 0))) for some in (half, sketches))
    assert many < 2.1 * few
