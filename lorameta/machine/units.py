"""Sizes and times for people."""

from __future__ import annotations


def gigabytes(size: float) -> str:
    """``14.5 GB``, ``870 MB``."""
    return f"{size / 1e9:.1f} GB" if size >= 0.95e9 else f"{max(size, 0) / 1e6:.0f} MB"


def seconds(value: float) -> str:
    """``0.8 ms``, ``0.23 s``, ``4.1 s``, ``12 s``, ``12 min``."""
    if value < 0.01:
        return f"{1000 * value:.1f} ms"
    if value < 1:
        return f"{value:.2f} s"
    return f"{value:.1f} s" if value < 10 else duration(value)


def numbers(count: float) -> str:
    """``7.2 billion``, ``134 million``, ``160,000``."""
    if count >= 0.95e9:
        return f"{count / 1e9:.1f} billion"
    return f"{count / 1e6:.0f} million" if count >= 10e6 else f"{round(count):,}"


def duration(seconds: float) -> str:
    """Return the seconds for people: ``45 s``, ``12 min``, ``3 h 20 min``, ``2 d 5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24} h"
