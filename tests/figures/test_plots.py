"""The figures show what they were given: each cell, point, bar and interval where it belongs."""

import sys
from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.distance import cdist

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

from lorameta.errors import MissingExtraError, UsageError  # noqa: E402
from lorameta.figures.mds import classical_mds  # noqa: E402
from lorameta.figures.plots import bank_map, calibration, cluster_order, forest, heatmap, weight_bars  # noqa: E402


@pytest.fixture(autouse=True)
def _close():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def texts(items):
    return [item.get_text() for item in items]


@pytest.fixture
def clusters():
    """Two far clusters of three points, in mixed order, and their distances."""
    points = np.array([[0, 0], [9, 0], [0, 1], [9, 1.5], [0.5, 0], [9, 0.2]], dtype=float)
    return points, cdist(points, points), list("abcdef")


def test_the_heatmap_holds_every_cell_in_the_order_of_its_labels(clusters):
    _, matrix, labels = clusters
    matrix = matrix + np.triu(np.ones_like(matrix), 1)  # asymmetric: rows and columns must not be confused
    ax = heatmap(matrix, labels)
    cells, drawn = np.ma.filled(ax.images[0].get_array(), np.nan), texts(ax.get_yticklabels())
    assert cells.shape == (6, 6)
    assert drawn == texts(ax.get_xticklabels())
    assert sorted(drawn) == labels
    assert [set(drawn[:3]), set(drawn[3:])] in ([{*"ace"}, {*"bdf"}], [{*"bdf"}, {*"ace"}])
    for i, row in enumerate(drawn):
        for j, column in enumerate(drawn):
            expected = matrix[labels.index(row), labels.index(column)]
            assert np.isnan(cells[i, j]) if i == j else cells[i, j] == expected, (row, column)


def test_the_heatmap_by_group_names_every_group_once(clusters):
    _, matrix, labels = clusters
    ax = heatmap(matrix, labels, groups=["x", "y", "x", "z", "z", "x"], annotate=".1f", diagonal=True)
    assert texts(ax.get_yticklabels()) == ["a", "c", "f", "b", "d", "e"]
    assert [t.get_text() for t in ax.texts if t.get_text() in "xyz"] == ["x", "y", "z"]
    assert len([t for t in ax.texts if t.get_text() not in "xyz"]) == 36
    assert [line.get_ydata()[0] for line in ax.lines[::2]] == [2.5, 3.5]


def test_order_given_keeps_it(clusters):
    _, matrix, labels = clusters
    assert texts(heatmap(matrix, labels, order="given").get_yticklabels()) == labels


def test_cluster_order_puts_neighbours_side_by_side():
    rng = np.random.default_rng(0)
    line = rng.permutation(20).astype(float)  # points on a line: the best order is along it
    order = cluster_order(np.abs(line[:, None] - line))
    assert np.abs(np.diff(line[order])).max() == 1


def test_scaling_gives_back_the_distances_of_points_in_the_plane(clusters):
    _, matrix, _ = clusters
    found, share = classical_mds(matrix)
    np.testing.assert_allclose(cdist(found, found), matrix, atol=1e-9)
    assert share == pytest.approx(1.0)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-12)
    assert found[:, 0].var() >= found[:, 1].var()
    shuffled = [3, 1, 0, 5, 2, 4]
    np.testing.assert_allclose(classical_mds(matrix[np.ix_(shuffled, shuffled)])[0], found[shuffled], atol=1e-9)


def test_scaling_is_that_of_scikit_learn(clusters):
    manifold = pytest.importorskip("sklearn.manifold")
    if not hasattr(manifold, "ClassicalMDS"):
        pytest.skip("scikit-learn has ClassicalMDS from 1.8 on")
    _, matrix, _ = clusters
    expected = manifold.ClassicalMDS(n_components=2, metric="precomputed").fit_transform(matrix)
    np.testing.assert_allclose(np.abs(classical_mds(matrix)[0]), np.abs(expected), atol=1e-9)


def test_scaling_says_how_much_two_axes_miss():
    points = np.diag([3.0, 2.0, 1.0, 0.0])
    centred = points - points.mean(axis=0)
    values = np.linalg.eigvalsh(centred @ centred.T)[::-1]
    assert classical_mds(cdist(points, points))[1] == pytest.approx(values[:2].sum() / values.sum())


def test_scaling_refuses_what_is_no_distance():
    with pytest.raises(UsageError, match="N × N"):
        classical_mds(np.ones((2, 3)))
    with pytest.raises(UsageError, match=r"the entry \(0, 1\) is nan"):
        classical_mds(np.array([[0, np.nan], [1, 0]]))
    with pytest.raises(UsageError, match="at least 0"):
        classical_mds(-np.ones((3, 3)))
    with pytest.raises(UsageError, match="from 1 to 3 axes"):
        classical_mds(np.ones((3, 3)), 4)


def test_the_map_has_a_point_for_each_dataset_by_group(clusters):
    _, matrix, labels = clusters
    groups = ["x", "y", "x", "z", "z", "x"]
    ax = bank_map(matrix, labels, groups)
    assert [c.get_label() for c in ax.collections] == texts(ax.get_legend().get_texts()) == ["x", "y", "z"]
    expected = classical_mds(matrix)[0]
    for collection in ax.collections:
        members = [i for i, group in enumerate(groups) if group == collection.get_label()]
        np.testing.assert_allclose(collection.get_offsets(), expected[members])
    assert "100%" in ax.get_xlabel()


def test_labels_on_the_map_stand_at_their_own_points_and_do_not_cover_each_other():
    rng = np.random.default_rng(3)
    points = rng.normal(size=(90, 2))
    labels = [f"task number {i}" for i in range(90)]
    ax = bank_map(cdist(points, points), labels)
    expected = classical_mds(cdist(points, points))[0]
    assert len(ax.texts) > 30
    for text in ax.texts:
        np.testing.assert_allclose(text.xy, expected[labels.index(text.get_text())])
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    for i, box in enumerate(boxes):
        for other in boxes[:i]:
            width = min(box.x1, other.x1) - max(box.x0, other.x0)
            height = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert max(width, 0) * max(height, 0) < 0.4 * min(b.width * b.height for b in (box, other))


def test_ninety_labels_do_not_touch_on_the_heatmap():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(90, 3))
    ax = heatmap(cdist(points, points), [f"task_{i}" for i in range(90)])
    ax.figure.canvas.draw()
    boxes = sorted((label.get_window_extent() for label in ax.get_yticklabels()), key=lambda box: box.y0)
    assert all(above.y0 >= below.y1 - 1.5 for below, above in pairwise(boxes))
    assert len(boxes) == 90


def test_the_bars_are_the_weights_panel_by_panel():
    mixtures = {
        ("js", "normalized"): {"b": 0.75, "a": 0.25},
        ("js", "sparse"): {"c": -0.5, "a": 1.5},
        ("kl", "normalized"): {"a": 0.25, "b": 0.25, "c": 0.25, "d": 0.25},
    }
    figure = weight_bars(mixtures, ids=["d", "a", "b", "c"], name=1)
    first, second, third, missing = figure.axes
    heights = [[patch.get_height() for patch in ax.patches] for ax in (first, second, third)]
    assert heights == [[0, 0.25, 0.75, 0], [0, 1.5, 0, -0.5], [0.25] * 4]
    assert not missing.get_visible()
    assert texts(t for ax in (first, second) for t in ax.texts) == ["b 0.75", "a 1.50"]
    assert first.get_title() == "normalized\neffective number 1.6"  # 1 / (9/16 + 1/16)
    assert second.get_title() == "sparse\neffective number 1.6"  # (3/2 + 1/2)² / (9/4 + 1/4)
    assert third.get_title() == "effective number 4.0"
    assert [ax.get_ylabel() for ax in (first, second, third)] == ["js", "", "kl"]
    negative, positive = second.patches[3].get_facecolor(), second.patches[1].get_facecolor()
    assert negative != positive


def test_bars_without_a_place_are_refused():
    with pytest.raises(UsageError, match="no place among the ids: b"):
        weight_bars({("js", "nearest"): {"b": 1.0}}, ids=["a"])
    with pytest.raises(UsageError, match="no mixture"):
        weight_bars({})


def test_calibration_counts_what_is_inside():
    ax = calibration([0, 1, 2, 3], [0.5, 3, 2, 1], lower=[0, 0, 1, 2], upper=[1, 2, 3, 4], level=0.9, labels="abcd")
    inside, outside = ax.collections[1:]
    assert ax.get_title() == "2 of 4 inside their interval (90% promised)"
    np.testing.assert_allclose(inside.get_offsets(), [[0, 0.5], [2, 2]])
    np.testing.assert_allclose(outside.get_offsets(), [[1, 3], [3, 1]])
    assert texts(ax.texts) == ["b", "d"]
    segments = [[list(end) for end in segment] for segment in ax.collections[0].get_segments()]
    assert segments[1] == [[0, 3], [2, 3]]
    with pytest.raises(UsageError, match="two ends"):
        calibration([0], [0], lower=[0])
    with pytest.raises(UsageError, match="there are 2 predictions, but 1 observed"):
        calibration([0, 1], [0])


def test_the_forest_has_a_line_for_each_method_from_the_top():
    rows = [("best", 0.3, 0.1, 0.5), ("middling", 0.1, -0.1, 0.2), ("worst", -0.4, -0.6, -0.2)]
    ax = forest(rows, reference=0.0, reference_label="base", label="gain")
    assert texts(ax.get_yticklabels()) == ["best", "middling", "worst"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first is at the top
    for i, (container, (_, middle, lower, upper)) in enumerate(zip(ax.containers, rows, strict=True)):
        assert [float(v[0]) for v in container.lines[0].get_data()] == [middle, i]
        np.testing.assert_allclose(container.lines[2][0].get_segments()[0], [[lower, i], [upper, i]])
    colours = [container.lines[0].get_color() for container in ax.containers]
    assert colours[0] == colours[2] != colours[1]  # only the middling one holds the reference
    with pytest.raises(UsageError, match="odd: 0 ≤ 2 ≤ 1"):
        forest([("odd", 2, 0, 1)])


def test_labels_of_another_number_are_refused(clusters):
    _, matrix, labels = clusters
    with pytest.raises(UsageError, match="6 matrix rows, but 5 labels, 2 groups"):
        heatmap(matrix, labels[:5], groups=["x", "y"])
    with pytest.raises(UsageError, match="unknown order 'group'"):
        heatmap(matrix, labels, order="group")


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingExtraError, match=r"lorameta\[plot\]"):
        forest([("a", 0, 0, 0)])
