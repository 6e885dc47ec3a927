"""Charts as plain SVG with a title and a description for those who do not see them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH = 640
#: Points of a map that have their name beside them, where there is room: the heaviest, then the nearest.
LABELLED = 12


def _svg(width: float, height: float, title: str, description: str, content: str, key: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" '
        f'aria-labelledby="{key}-t {key}-d" xmlns="http://www.w3.org/2000/svg">'
        f'<title id="{key}-t">{escape(title)}</title><desc id="{key}-d">{escape(description)}</desc>{content}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 12, fill: str = "--ink") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
        f'style="fill:var({fill});font-family:system-ui,sans-serif">{escape(text)}</text>'
    )


def bars(values: Mapping[str, float], title: str) -> str:
    """Horizontal bars, one per entry; negative values go left of the line in another colour."""
    largest = max((abs(value) for value in values.values()), default=0.0) or 1.0
    negative = any(value < 0 for value in values.values())
    left, row = 230, 20
    zero, scale = (left + 150, 150 / largest) if negative else (left, 330 / largest)
    parts = []
    for i, (name, value) in enumerate(values.items()):
        y, size = 8 + i * row, abs(value) * scale
        x = zero - size if value < 0 else zero
        shown = name if len(name) <= 32 else name[:31] + "…"
        parts.append(_text(left - 8, y + 13, shown, "end"))
        parts.append(
            f'<rect x="{x:.1f}" y="{y + 2}" width="{max(size, 0.5):.1f}" height="14" rx="2" '
            f'style="fill:var({"--orange" if value < 0 else "--blue"})"/>'
        )
        parts.append(_text((zero if value < 0 else x + size) + 6, y + 13, f"{value:.3f}", size=11, fill="--soft"))
    described = "; ".join(f"{name} {value:.3f}" for name, value in values.items())
    return _svg(WIDTH, 16 + row * len(values), title, described, "".join(parts), "bars")


def scatter(
    points: Sequence[tuple[float, float]], names: Sequence[str], weights: Sequence[float], title: str, description: str
) -> str:
    """Return the bank as points whose area is their weight; the last point, a diamond, is the dataset.

    Parameters
    ----------
    points : sequence of (x, y)
        Of the adapters, then of the dataset.
    names : sequence of str
        Of the adapters.
    weights : sequence of float
        Of the adapters, at least 0.
    """
    height, margin = 460, 36
    low = [min(point[k] for point in points) for k in range(2)]
    span = max(max(point[k] for point in points) - low[k] for k in range(2)) or 1.0
    scale = min((WIDTH - 2 * margin), (height - 2 * margin)) / span
    middle = [low[k] + (max(point[k] for point in points) - low[k]) / 2 for k in range(2)]
    places = [(WIDTH / 2 + (x - middle[0]) * scale, height / 2 - (y - middle[1]) * scale) for x, y in points]
    largest = max(weights, default=0.0) or 1.0
    parts, order = [], sorted(range(len(names)), key=lambda i: (-weights[i], math.dist(places[i], places[-1])))
    for i in order:
        x, y = places[i]
        radius = 2.5 + 9 * (weights[i] / largest) ** 0.5
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" style="fill:var(--blue);fill-opacity:.55">'
            f"<title>{escape(names[i])}: weight {weights[i]:.3f}</title></circle>"
        )
    x, y = places[-1]
    taken = [(x - 40, y - 26, x + 40, y + 9)]
    for i in order[:LABELLED]:
        at, wide = places[i], 6.2 * min(len(names[i]), 28)
        for left in (at[0] + 13, at[0] - 13 - wide):
            box = (left, at[1] - 7, left + wide, at[1] + 7)
            free = not any(a[0] < box[2] and box[0] < a[2] and a[1] < box[3] and box[1] < a[3] for a in taken)
            if free and box[0] > 0 and box[2] < WIDTH:
                taken.append(box)
                parts.append(_text(left, at[1] + 4, names[i][:28], size=11))
                break
    parts.append(
        f'<path d="M{x:.1f} {y - 9:.1f}l9 9l-9 9l-9 -9z" style="fill:var(--orange);stroke:var(--ground)">'
        "<title>the dataset</title></path>"
    )
    parts.append(_text(x, y - 14, "the dataset", "middle", fill="--orange"))
    return _svg(WIDTH, height, title, description, "".join(parts), "map")


def curve(points: Sequence[tuple[float, float]], title: str, across: str, up: str) -> str:
    """Return a line through points, with the range of both axes written at its ends."""
    height, left, top = 260, 60, 20
    xs, ys = [x for x, _ in points], [y for _, y in points]
    wide, high = (max(xs) - min(xs)) or 1.0, (max(ys) - min(ys)) or 1.0
    places = [
        (left + (x - min(xs)) / wide * (WIDTH - left - 20), top + (max(ys) - y) / high * (height - top - 50))
        for x, y in points
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [f'<polyline points="{line}" fill="none" style="stroke:var(--blue);stroke-width:2"/>']
    parts += [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" style="fill:var(--blue)"><title>{across} {point[0]:g}: '
        f"{point[1]:.4f}</title></circle>"
        for (x, y), point in zip(places, points, strict=True)
    ]
    parts += [_text(left - 6, top + 5, f"{max(ys):.3f}", "end"), _text(left - 6, height - 46, f"{min(ys):.3f}", "end")]
    parts += [_text(left, height - 26, f"{min(xs):g}"), _text(WIDTH - 20, height - 26, f"{max(xs):g}", "end")]
    parts += [_text(WIDTH / 2, height - 8, f"{across} → {up}", "middle", fill="--soft")]
    described = "; ".join(f"{across} {x:g}: {y:.4f}" for x, y in points)
    return _svg(WIDTH, height, title, described, "".join(parts), "curve")
