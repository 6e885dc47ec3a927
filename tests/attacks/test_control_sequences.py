"""Names and licences with control sequences, HTML and Markdown: the terminal and the card show them and obey none."""

from __future__ import annotations

import pytest

from lorameta.adapter import Adapter
from lorameta.adapter.card import card
from lorameta.errors import LorametaError, LorametaWarning, markdown, printable
from tests.attacks.conftest import tamper

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\r"
CONTROLS = {chr(code) for code in (*range(9), *range(11, 32), *range(127, 160), 0x202E, 0x2028, 0xD800)}


def poison(bank, text=EVIL):
    def change(content):
        content["name"] = f"bank{text}"
        for record in content["adapters"]:
            record |= {"family": f"family{text}", "licence": f"MIT{text}", "description": text, "task": text}
            record["source"] = {"repo": f"a/b{text}", "path": text}

    tamper(bank, change)


COMMANDS = """
bank list {bank}
bank list {bank} --json
bank info {bank}
bank check {bank}
bank remove {bank} nobody
explain {rows} --bank {bank}
generate {rows} --bank {bank} -o {out}
generate {rows} --bank {out}{evil} -o x
"""


@pytest.mark.parametrize("line", COMMANDS.strip().splitlines())
def test_the_terminal_obeys_nothing(bank, lorameta, tiny_rows, tmp_path, line):
    poison(bank)
    places = {"bank": bank, "rows": tiny_rows, "out": tmp_path / "out", "evil": EVIL}
    done = lorameta(*(word.format(**places) for word in line.split()))
    assert done.out + done.err
    assert not CONTROLS & set(done.out + done.err)
    if "--json" in line:
        assert done.json["adapters"][0]["family"] == f"family{EVIL}"  # escaped as JSON is: nothing is lost


def test_the_card_obeys_nothing(bank, lorameta, tiny_rows, tmp_path):
    poison(bank, EVIL + "| <script>x</script> ![x](http://x) [y](javascript:z)\n# heading\n```")
    assert lorameta("generate", tiny_rows, "--bank", bank, "-o", tmp_path / "out").code == 0
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert not CONTROLS & set(text)
    assert "\\<script\\>" in text
    body = text.replace("\\<", "").replace("\\[", "").replace("\\]", "").replace("\\`", "")
    assert "<script" not in body
    assert "](" not in body
    assert "\n# heading" not in body
    assert body.count("```") == 2
    assert Adapter.from_pretrained(tmp_path / "out").num_parameters


def test_errors_and_warnings_are_printable():
    assert (
        str(LorametaError(f"a{EVIL}\n\tb")) == "a\\u001b]0;owned\\u0007\\u001b[2J\\u009b31m\\u202egnp.exe\\u000d\n\tb"
    )
    assert "\x1b" not in str(LorametaWarning(EVIL))


@pytest.mark.parametrize("text", ["plain", "naïve – “quoted” 漢字 👩‍🔬", "a_b", "tab\tline\n", "100 %"])
def test_text_stays_as_it_is(text):
    assert printable(text) == text


def test_markdown_is_shown_as_it_is():
    assert markdown("# a|b\n<i> [x](y) `z` *k* _u_ a_b &lt; ~s~") == (
        "\\# a\\|b \\<i\\> \\[x\\](y) \\`z\\` \\*k\\* \\_u\\_ a_b \\&lt; \\~s\\~"
    )


def test_the_card_names_no_path_of_this_machine(bank, lorameta, tiny_rows, tmp_path):
    out = tmp_path / "secret-project" / "out"
    assert lorameta("generate", tiny_rows, "--bank", bank, "-o", out, f"--encoding={'utf-8'}").code == 0
    line = next(line for line in (out / "README.md").read_text().splitlines() if "Command" in line)
    assert str(tmp_path) not in line
    assert "`lorameta generate rows.jsonl --bank bank -o out --encoding=utf-8`" in line


def test_an_embedded_card_cites_its_base_without_control(bank):
    adapter = Adapter.from_pretrained(bank / "adapters" / "opposite")
    object.__setattr__(adapter, "base_model", "x" + EVIL)
    assert not CONTROLS & set(card(adapter))


def test_the_report_shows_what_would_reorder_text():
    from lorameta.report.html.page import page, paragraph

    found = page(f"title{EVIL}", [("heading", paragraph(f"<script>{EVIL}"))], "footer")
    assert not CONTROLS & set(found)
    assert "&lt;script&gt;\\u001b" in found
