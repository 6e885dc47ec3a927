"""A tokenizer whose largest id asks for gigabytes is refused; rows of megabytes are counted in little memory."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from lorameta.data import Example
from lorameta.encoder import tokens
from lorameta.encoder.tokens import TokenEncoder
from lorameta.errors import BankError


def test_an_id_of_five_hundred_millions(bank):
    path = bank / "base" / "tokenizer.json"
    content = json.loads(path.read_bytes())
    content["model"]["vocab"]["Ġdog"] = 500_000_000
    path.write_text(json.dumps(content))
    with pytest.raises(BankError, match="largest token id is 500,000,000"):
        TokenEncoder(bank / "base").encode([Example("a dog", ("x",))])


MEMORY = """
import resource, sys
from lorameta.data import Example
from lorameta.encoder.tokens import TokenEncoder
encoder = TokenEncoder(sys.argv[1])
encoder.encode([Example("the dog barks " * 10, ("x",))])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
encoder.encode([Example("the dog barks " * 350_000, ("x",))] + [Example("a cow, " * 10_000, ("moo",))] * 60)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kilobytes by getrusage")
def test_rows_of_megabytes_take_little_memory(bank):
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(bank / "base")], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 250_000, done.stdout  # kilobytes; a row of 5 MB alone took 856 MB


def test_counts_do_not_depend_on_the_groups(bank, monkeypatch):
    """Rows are counted alike in groups of any size; a row that is cut before white space as well, by this tokenizer."""
    rows = [Example(f"the dog {i} barks\nat the cat " * (i + 1), (str(i),)) for i in range(60)]
    whole = TokenEncoder(bank / "base").encode(rows).token_counts
    for size in (300, 1000, 10**9):
        monkeypatch.setattr(tokens, "MAX_CHARACTERS", size)
        np.testing.assert_array_equal(TokenEncoder(bank / "base").encode(rows).token_counts, whole)
    monkeypatch.setattr(tokens, "MAX_CHARACTERS", 4)
    assert "".join(tokens.bounded_parts("aa bb cccccccccc d")) == "aa bb cccccccccc d"
    assert list(tokens.bounded_parts("aa bb cccccccccc d")) == ["aa", " bb", " ccc", "cccc", "ccc", " d"]
