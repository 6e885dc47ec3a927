"""Help comes at once, lists every verb, and says what the registries hold."""

import re
import subprocess
import sys
from importlib import import_module

import pytest

from lorameta import cli
from lorameta.cli import bank
from lorameta.combiner import COMBINERS
from lorameta.distance import DISTANCES
from lorameta.operator import OPERATORS

VERBS = [*cli.VERBS, *(f"bank {verb}" for verb in bank.VERBS)]


def test_help_lists_the_verbs_and_the_exit_codes(lorameta):
    result = lorameta("--help")
    assert result.code == 0
    assert re.findall(r"^  ([a-z]+)  ", result.out, re.MULTILINE) == list(cli.VERBS)
    assert "0 done, 1 the work failed, 2 the call or the data was wrong" in result.out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(lorameta, verb):
    result = lorameta(*verb.split(), "--help")
    assert result.code == 0
    if verb not in ("bank", "ui"):  # a group of verbs, and a page
        assert "--json" in result.out
        assert "--debug" in result.out


def test_help_names_every_distance_operator_and_combiner(lorameta):
    words = set(lorameta("generate", "--help").out.replace(",", " ").replace(".", " ").replace(":", " ").split())
    assert {*DISTANCES, *OPERATORS, *COMBINERS} <= words


@pytest.mark.parametrize("group", [cli, bank], ids=["lorameta", "lorameta bank"])
def test_the_list_of_verbs_has_the_first_sentence_of_each_verb_s_own_help(group):
    for verb, text in group.VERBS.items():
        module = import_module(f"{group.__name__}.{verb}")
        own = module.app.info.help if hasattr(module, "app") else getattr(module, verb).__doc__
        assert f"{' '.join(own.split())} ".startswith(f"{text} "), verb
        assert text.endswith("."), verb


def test_every_verb_and_group_takes_offline_and_debug(lorameta):
    for words in ([], *(verb.split() for verb in VERBS)):
        assert all(option in lorameta(*words, "--help").out for option in ("--offline", "--debug")), words


def test_a_verb_that_is_spelt_wrong_is_guessed(lorameta):
    assert "Did you mean 'generate'?" in lorameta("genrate").err
    assert "Did you mean 'list'?" in lorameta("bank", "lsit").err


def test_version(lorameta):
    result = lorameta("--version")
    assert result.code == 0
    assert result.out.startswith("lorameta 0.")


def test_no_verb_shows_help_and_is_a_wrong_call(lorameta):
    result = lorameta()
    assert result.code == 2
    assert "generate" in result.out + result.err


def test_help_takes_less_than_half_a_second_of_computing():
    code = (
        "import sys, time, contextlib, io; sys.argv = ['lorameta', '--help']\n"
        "from lorameta.cli import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): main()\n"
        "print(time.process_time())"
    )

    def seconds() -> float:
        # CPU time of the whole process: the wall clock of a busy machine says nothing about the package.
        return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)

    assert min(seconds() for _ in range(3)) < 0.5


def test_the_module_runs_as_a_command():
    done = subprocess.run([sys.executable, "-m", "lorameta", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("lorameta 0.")
