"""Reports as one HTML file: no script, no network, readable on a phone, in the dark and by keyboard."""

from __future__ import annotations

from lorameta.report.html.report import html_report

__all__ = ["html_report"]
