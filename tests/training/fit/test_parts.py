"""The two fits and what they share, against independent oracles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lorameta.base_model.batch import encode_example
from lorameta.base_model.load import Base
from lorameta.data import Example
from lorameta.training.fit.block import BlockFit
from lorameta.training.fit.choose import Candidate, candidates, preferred
from lorameta.training.fit.head import HeadFit, objective
from lorameta.training.fit.solver import RowScores, directions, predict, subspace
from lorameta.training.fit.states import AnswerStates, Readout, collect, find_readout


@pytest.fixture(scope="module")
def readout(base: Base, rows: list[Example]) -> Readout:
    return find_readout(base.model, encode_example(base.tokenizer, rows[0]))


@pytest.fixture(scope="module")
def states(base: Base, rows: list[Example], readout: Readout) -> AnswerStates:
    encoded = [encode_example(base.tokenizer, row) for row in rows]
    return collect(base.model, readout, {}, encoded, pad=0).states


def labels(count: int = 60, seed: int = 0) -> AnswerStates:
    """One token an answer, and no others in the vocabulary: a plain classification."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 5)).astype(np.float32) * np.array([1, 3, 0.2, 1, 10], dtype=np.float32)
    gold = (x[:, 0] + x[:, 1] / 3 + rng.normal(size=count) > 0).astype(np.int64) + (x[:, 4] > 12)
    empty = np.full(count, -np.inf, dtype=np.float32)
    return AnswerStates(np.arange(count), gold, np.arange(3), x, np.zeros((count, 3), np.float32), empty, empty)


def test_the_head_is_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    known, penalty = labels(), 0.03
    fit = HeadFit(known, 1.0, 3)
    W = fit.solve(penalty, fit.start())
    x = known.x / known.x.std(axis=0)
    oracle = LogisticRegression(C=1 / (2 * penalty * len(x)), fit_intercept=False, tol=1e-8, max_iter=1000)
    oracle.fit(x, known.gold)
    scores = x @ W
    chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(chances, oracle.predict_proba(x), atol=2e-3)


def test_the_update_of_the_head_moves_its_logits_as_fitted() -> None:
    known = labels()
    fit = HeadFit(known, 0.25, 9)
    W = fit.solve(0.01, fit.start())
    A, B = fit.cut(W, 3)
    moved = fit.applied(known, A, B).logits
    np.testing.assert_allclose(moved, (known.x / known.x.std(axis=0)) @ W, rtol=1e-3, atol=1e-3)
    assert B.shape == (9, 3)
    assert not B[3:].any()
    np.testing.assert_allclose(0.25 * known.x @ (B @ A).T[:, :3], moved, rtol=1e-3, atol=1e-3)


def test_the_gradient_of_the_head_is_that_of_finite_differences() -> None:
    rng = np.random.default_rng(1)
    features, logits = rng.normal(size=(11, 4)), rng.normal(size=(11, 3))
    rest, gold, W = rng.normal(size=11), rng.integers(0, 3, 11), rng.normal(size=(4, 3))
    gradient = objective(W, features, logits, rest, gold, 0.1)[1].reshape(4, 3)
    for index in np.ndindex(4, 3):
        step = np.zeros((4, 3))
        step[index] = 1e-6
        up, down = (objective(W + sign * step, features, logits, rest, gold, 0.1)[0] for sign in (1, -1))
        assert gradient[index] == pytest.approx((up - down) / 2e-6, rel=1e-5, abs=1e-8)


def test_the_gradient_of_the_block_is_that_of_finite_differences(states: AnswerStates, readout: Readout) -> None:
    fit = BlockFit(states, readout, {})
    rng = np.random.default_rng(2)
    theta = 0.01 * rng.normal(size=fit.start().shape)
    gradient = fit.objective(theta, fit.features, 0.1)[1].reshape(theta.shape)
    for _ in range(3):
        way = rng.normal(size=theta.shape) + gradient / np.abs(gradient).max()
        way /= np.linalg.norm(way)
        up, down = (fit.objective(theta + sign * 1e-2 * way, fit.features, 0.1)[0] for sign in (1, -1))
        assert float(np.vdot(gradient, way)) == pytest.approx((up - down) / 2e-2, rel=2e-2, abs=2e-4)


def test_the_loss_of_the_block_is_that_over_the_whole_vocabulary(states: AnswerStates, readout: Readout) -> None:
    fit = BlockFit(states, readout, {})
    coefficients = fit.solve(0.3, fit.start())
    A, B = fit.cut(coefficients, 48)
    exact = predict(fit.applied(states, A, B)).mean_loss()
    fitted = fit.objective(coefficients.astype(np.float64), fit.features, 0.0)[0]
    assert exact == pytest.approx(fitted, rel=1e-2)
    assert exact < 0.5 * predict(states).mean_loss()


def test_an_update_that_is_too_sure_is_scaled_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels that the states half explain, on top of logits that explain them as well: any large update is too sure."""
    known = labels(80, seed=5)
    known = replace(known, gold=np.where(np.arange(80) % 4 == 0, 2 - known.gold, known.gold))
    monkeypatch.setattr(HeadFit, "penalties", (1e-6,))
    make = lambda part, states: HeadFit(states, 1.0, 3)  # noqa: E731
    folds = [(known.of_rows(np.arange(8)), known.of_rows(np.arange(8, 80)))]
    found = candidates(folds, make, ("head",), 3, False, None)["head"]
    (part,) = found.parts
    seen, held = folds[0]
    fit = make("head", seen)
    A, B = fit.cut(fit.solve(1e-6, fit.start()), 3)
    before, whole, scaled = (predict(fit.applied(held, A, np.float32(s) * B)).mean_loss() for s in (0, 1, part.scale))
    assert whole > before
    assert part.scale < 1
    assert found.scores.mean_loss() == pytest.approx(scaled, rel=1e-4)
    assert scaled < whole


def test_directions_keep_the_features_and_the_penalty() -> None:
    rng = np.random.default_rng(3)
    for shape in ((7, 12), (12, 7)):
        features = rng.normal(size=shape).astype(np.float32)
        Z, V = directions(features)
        np.testing.assert_allclose(Z @ V, features, atol=1e-5)
        np.testing.assert_allclose(V @ V.T, np.eye(len(V)), atol=1e-4)


def test_a_cut_is_the_best_one_on_the_data() -> None:
    rng = np.random.default_rng(4)
    for shape in ((30, 8, 6), (6, 9, 40)):
        features = (rng.normal(size=shape[:2]) * np.geomspace(0.1, 10, shape[1])).astype(np.float32)
        theta = rng.normal(size=shape[1:]).astype(np.float32)
        Q = subspace(features, theta, 2)
        # within the span of Q, the coefficients that do most: a plain least squares
        done = features @ theta
        near = (features @ Q) @ np.linalg.lstsq(features @ Q, done, rcond=None)[0]
        least = np.sqrt((np.linalg.svd(done, compute_uv=False)[2:] ** 2).sum())
        assert np.linalg.norm(done - near) == pytest.approx(least, rel=1e-3)


def test_of_rows_takes_the_positions_of_these_rows(states: AnswerStates) -> None:
    part = states.of_rows(np.array([3, 5]))
    assert set(part.rows) == {3, 5}
    assert part.x.shape[0] == part.logits.shape[0] == (np.isin(states.rows, [3, 5])).sum()
    assert predict(part).mean_loss() == pytest.approx(
        predict(replace(states)).loss[np.isin(states.rows, [3, 5])].mean(), rel=1e-5
    )


@pytest.mark.parametrize(
    ("block", "head", "taken"),
    [
        ((1.0, 0.5), (0.94, 0.5), "head"),  # better by more than the margin
        ((1.0, 0.5), (0.96, 0.5), "block"),  # by less
        ((1.0, 0.5), (0.90, 0.0), "block"),  # but fewer exact answers
        ((1.0, 0.5), (1.10, 1.0), "block"),
        (None, (1.10, 0.0), "head"),
    ],
)
def test_the_last_block_is_taken_unless_another_is_clearly_better(block, head, taken) -> None:
    found = {}
    for name, scores in (("head", head), ("block", block)):
        if scores:
            loss, exact = scores
            right = np.array([True, exact == 1.0]) if exact else np.array([False, False])
            found[name] = Candidate((), RowScores(np.full(2, loss), right, np.arange(2)), [])
    assert preferred(found) == taken
