"""Tables are aligned and fit, bars are as long as their share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorameta.report import table as module
from lorameta.report.table import bar, cell_width, fit, table


def test_numbers_go_right_and_text_goes_left():
    text = table(["model", "score"], [["base", 0.5], ["a longer name", None], ["b", 12.25]])
    assert text.splitlines() == [
        "model           score",
        "-------------  ------",
        "base            0.500",
        "a longer name       -",
        "b              12.250",
    ]


def test_a_table_too_wide_is_cut_in_its_widest_text_column_only():
    text = table(["task", "what", "n"], [["abc", "word " * 40, 123456]], width=40)
    assert max(map(len, text.splitlines())) <= 40
    assert "abc" in text
    assert "123456" in text


def test_numbers_are_never_cut():
    text = table(["a", "b"], [[10**30, 10**30]], width=20)
    assert text.splitlines()[-1].split() == [str(10**30)] * 2


def test_rows_of_the_wrong_length_are_refused():
    with pytest.raises(ValueError, match="1 cells under 2 headers"):
        table(["a", "b"], [["x"]])


words = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs", "Cc"]), max_size=60)


@given(st.lists(st.tuples(words, words), max_size=5), st.integers(30, 120))
def test_any_text_stays_in_its_line_and_within_the_width(rows, width):
    lines = table(["one", "two"], rows, align="<<", width=width).split("\n")
    assert len(lines) == len(rows) + 2
    assert all(cell_width(line) <= width for line in lines)


@given(words, st.integers(4, 40))
def test_fit_keeps_short_text_and_cuts_long_text(text, width):
    fitted = fit(text, width)
    assert cell_width(fitted) <= width
    short = " ".join(text.split())
    assert fitted == short if cell_width(short) <= width else fitted != short


@pytest.mark.parametrize(("share", "length"), [(0, 0), (0.5, 5), (1, 10), (2, 10), (-1, 0)])
def test_bar_length_is_the_share(share, length):
    assert bar(share, cells=10, unicode=False) == "#" * length
    assert bar(share, cells=10, unicode=True) == "█" * length


def test_bar_has_eighths():
    assert bar(0.3125, cells=2, unicode=True) == "▋"
    assert len(bar(0.3125, cells=4, unicode=True)) == 2


def test_ascii_terminals_get_ascii(monkeypatch):
    class Ascii:
        encoding = "ascii"

    monkeypatch.setattr(module.sys, "stdout", Ascii())
    assert bar(1, cells=3) == "###"
    assert fit("abcdefgh", 6) == "abc..."
