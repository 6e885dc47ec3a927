"""Options that are the fields of a settings class: their text, their defaults, and what a verb is handed."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pytest
import typer
from typer.testing import CliRunner

from lorameta.cli.options import options_of
from lorameta.training import RefineSettings
from lorameta.training.fields import documented, setting


@documented
@dataclass(frozen=True)
class Kitchen:
    """What is cooked.

    Raises
    ------
    ValueError
        If it burns.
    """

    portions: int = setting(4, "How many are hungry.", metavar="N")
    minutes: float | None = setting(None, "Time on the fire; by default as long as it takes.")
    spices: tuple[str, ...] | None = setting(None, "Names with commas; by default salt.")
    lid: bool | None = setting(None, "Cover it.", flag="--lid/--no-lid")


def call(*words: str, **options):
    handed = []
    app = typer.Typer(rich_markup_mode=None)

    @app.command()
    @options_of(Kitchen, "kitchen", **options)
    def cook(*, name: str = "", kitchen: Kitchen | None) -> None:
        """Cook."""
        handed.append((name, kitchen))

    result = CliRunner().invoke(app, words)
    return result.output if words == ("--help",) else (result.exit_code, handed)


def test_a_verb_is_handed_the_settings_that_were_typed():
    assert call() == (0, [("", Kitchen())])
    words = ["--name", "soup", "--portions", "2", "--minutes", "2.5", "--spices", "salt, dill", "--no-lid"]
    assert call(*words) == (0, [("soup", Kitchen(2, 2.5, ("salt", "dill"), False))])
    assert call("--portions", "two")[0] == 2


def test_options_with_a_prefix_are_all_or_nothing():
    chosen = {"prefix": "cook-", "only": ("portions", "minutes")}
    assert call(**chosen) == (0, [("", None)])
    assert call("--cook-minutes", "3", **chosen) == (0, [("", Kitchen(minutes=3.0))])
    assert call("--cook-lid", **chosen)[0] == 2


def test_the_command_line_may_have_a_default_of_its_own():
    assert call(portions=9, spices=("dill",)) == (0, [("", Kitchen(9, spices=("dill",)))])


def test_the_help_of_an_option_is_the_text_of_its_field():
    text = " ".join(call("--help").split())
    for one in fields(Kitchen):
        assert one.metadata["help"] in text
        assert f"{one.name} : {one.type}, default {one.default}" in Kitchen.__doc__
    assert Kitchen.__doc__.startswith("What is cooked.\n")
    assert Kitchen.__doc__.endswith("Raises\n------\nValueError\n    If it burns.\n")


@pytest.mark.parametrize("verb", ["refine", "finetune"])
def test_refine_and_finetune_have_an_option_for_each_setting(lorameta, verb):
    text = " ".join(lorameta(verb, "--help").out.split())
    for one in fields(RefineSettings):
        flag = one.metadata["flag"] or "--" + one.name.replace("_", "-")
        assert flag.replace("/", " / ") in text
        assert one.metadata["help"].split(";")[0][:40] in text
