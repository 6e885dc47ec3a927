"""What the system refuses is said with the file and what to do about it."""

from __future__ import annotations

import errno
import os

import pytest

from lorameta.cli import common


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "make room"), (errno.EACCES, "change its permissions"), (errno.EROFS, "choose another place")],
)
def test_the_file_and_a_remedy(capsys, number, remedy):
    assert common.fail(OSError(number, os.strerror(number), "/a/file")) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"lorameta: /a/file: {os.strerror(number)}; ")
    assert remedy in said


def test_an_error_without_a_number_keeps_its_words(capsys):
    common.fail(OSError("the tokenizer cannot be loaded"))
    assert capsys.readouterr().err == "lorameta: the tokenizer cannot be loaded\n"
