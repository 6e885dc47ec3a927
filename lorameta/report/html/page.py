"""Parts of an HTML page, all of them escaped; charts come as SVG from `charts`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from lorameta.errors import printable

STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;--ground:#fff;--panel:#f6f8fa;
--blue:#0b5cad;--orange:#b45309;--good:#1a7f37;--bad:#b42318}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa4af;--line:#3d444d;--ground:#0d1117;
--panel:#161b22;--blue:#6cb6ff;--orange:#f0a35e;--good:#57c26b;--bad:#ff8a80}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:62rem;padding:1rem;background:var(--ground);color:var(--ink);
font:1rem/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.6rem;line-height:1.25}h2{font-size:1.2rem;margin:2rem 0 .5rem;border-bottom:1px solid var(--line)}
p,li{max-width:44rem}.soft,caption,figcaption{color:var(--soft)}
a{color:var(--blue)}.skip{position:absolute;left:-99rem}.skip:focus{position:static}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1rem;list-style:none;padding:0}
:focus-visible{outline:3px solid var(--blue);outline-offset:2px}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;min-width:100%}
caption{text-align:left;padding:.25rem 0}th,td{padding:.3rem .6rem;border-bottom:1px solid var(--line);
text-align:left;vertical-align:top;overflow-wrap:normal}td.n,th.n{text-align:right;white-space:nowrap}
td.text{white-space:pre-wrap;overflow-wrap:anywhere;min-width:9rem}
dl{display:grid;grid-template-columns:minmax(8rem,max-content) 1fr;gap:.25rem 1rem}dt{color:var(--soft)}dd{margin:0}
@media (max-width:32rem){dl{grid-template-columns:1fr}dd{margin-bottom:.5rem}}
@media (max-width:40rem){.stack,.stack tbody,.stack caption,.stack tr,.stack td{display:block}
.stack thead{position:absolute;left:-99rem}.stack tr{padding:.6rem 0;border-bottom:1px solid var(--line)}
.stack td{border:0;padding:.15rem 0}
.stack td::before{content:attr(data-label);display:block;color:var(--soft);font-size:.85rem}}
figure{margin:1rem 0}figure svg{min-width:32rem}
svg{width:100%;max-width:50rem;height:auto;background:var(--panel);border-radius:.4rem}
summary{cursor:pointer;padding:.3rem 0}.good{color:var(--good)}.bad{color:var(--bad)}
.note{background:var(--panel);border-left:.3rem solid var(--orange);padding:.5rem .8rem}
"""


def number(value: float | int | None, digits: int = 3) -> str:
    """Return a number for people that keeps all of its digits for machines; "not known" for None."""
    if value is None:
        return "not known"
    shown = f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"
    return f'<data value="{escape(repr(value))}">{shown}</data>'


def facts(items: Iterable[tuple[str, str]]) -> str:
    """Labels (plain text) and values (HTML)."""
    return "<dl>" + "".join(f"<dt>{escape(label)}</dt><dd>{value}</dd>" for label, value in items) + "</dl>"


def table(
    caption: str, headers: Sequence[str], rows: Iterable[Sequence[str]], align: str = "", *, stacked: bool = False
) -> str:
    """Return a table that scrolls by itself where it is too wide.

    Parameters
    ----------
    caption, headers : str
        Plain text.
    rows : iterable of sequences of str
        HTML.
    align : str
        ``<``, ``>`` or ``t`` (text with its line breaks) per column; all ``<`` by default.
    stacked : bool
        Whether the cells of a row stand below each other on a narrow screen, each with the name of its column.
    """
    if stacked:
        return _scrolling(caption, _stacked(caption, headers, rows))
    kinds = [{">": ' class="n"', "t": ' class="text"'}.get(side, "") for side in align.ljust(len(headers), "<")]
    head = "".join(f'<th scope="col"{kind if "n" in kind else ""}>{escape(text)}</th>' for text, kind in
                   zip(headers, kinds, strict=True))  # fmt: skip
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>\n"
        for row in rows
    )
    return _scrolling(
        caption,
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>",
    )


def _stacked(caption: str, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of texts whose parts say what they are: a style that stacks them would hide it from screen
    readers."""
    head = "".join(f'<th scope="col" role="columnheader">{escape(text)}</th>' for text in headers)
    body = "".join(
        '<tr role="row">'
        + "".join(
            f'<td class="text" role="cell" data-label="{escape(name)}">{cell}</td>'
            for name, cell in zip(headers, row, strict=True)
        )
        + "</tr>\n"
        for row in rows
    )
    return (
        f'<table class="stack" role="table"><caption>{escape(caption)}</caption><thead role="rowgroup">'
        f'<tr role="row">{head}</tr></thead><tbody role="rowgroup">\n{body}</tbody></table>'
    )


def _scrolling(label: str, content: str) -> str:
    """Return a part of the page that scrolls by itself, by keyboard too; `label` is plain text."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">{content}</div>\n'


def figure(svg: str, caption: str) -> str:
    """Return a chart with a caption in plain text."""
    return f"<figure>{_scrolling('Chart', svg)}<figcaption>{escape(caption)}</figcaption></figure>\n"


def details(summary: str, content: str) -> str:
    """Content that is folded away; `summary` is plain text."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>\n"


def note(text: str) -> str:
    """Return a remark that stands out, in plain text."""
    return f'<p class="note">{escape(text)}</p>\n'


def paragraph(text: str) -> str:
    """Plain text."""
    return f"<p>{escape(text)}</p>\n"


def page(title: str, sections: Sequence[tuple[str, str]], footer: str) -> str:
    """Return the whole document: title and headings in plain text, the content of each section in HTML.

    Characters that reorder or hide text are shown as escapes, wherever they come from.
    """
    kept = [(f"s{i}", heading, content) for i, (heading, content) in enumerate(sections) if content]
    links = "".join(f'<li><a href="#{key}">{escape(heading)}</a></li>' for key, heading, _ in kept)
    body = "".join(
        f'<section aria-labelledby="{key}"><h2 id="{key}" tabindex="-1">{escape(heading)}</h2>\n{content}</section>\n'
        for key, heading, content in kept
    )
    return printable(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{STYLE}</style></head>\n'
        f'<body><a class="skip" href="#main">Skip to the content</a><header><h1>{escape(title)}</h1>'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n<main id="main">{body}</main>\n'
        f'<footer class="soft"><p>{escape(footer)}</p></footer></body></html>\n'
    )
