"""Which names mean one base: quantized copies and local folders do, other versions and sizes do not."""

from __future__ import annotations

import pytest

from lorameta.adapter.base_names import is_local, same_base

MISTRAL = "mistralai/Mistral-7B-Instruct-v0.2"


@pytest.mark.parametrize(
    "said",
    [
        MISTRAL,
        f"{MISTRAL}/",
        MISTRAL.upper(),
        "unsloth/mistral-7b-instruct-v0.2-bnb-4bit",
        "unsloth/Mistral-7B-Instruct-v0.2-unsloth-bnb-4bit",
        "TheBloke/Mistral-7B-Instruct-v0.2-GPTQ",
        "TheBloke/Mistral-7B-Instruct-v0.2-AWQ",
        "mlx-community/Mistral-7B-Instruct-v0.2-4bit",
        "/data/models/Mistral-7B-Instruct-v0.2",
        "./Mistral-7B-Instruct-v0.2/",
        "C:\\models\\Mistral-7B-Instruct-v0.2",
    ],
)
def test_one_base(said):
    assert same_base(said, ["", MISTRAL])


@pytest.mark.parametrize(
    "said",
    [
        "",
        "mistralai/Mistral-7B-v0.2",
        "mistralai/Mistral-7B-Instruct-v0.1",
        "mistralai/Mistral-7B-Instruct-v0.3",
        "somebody/Mistral-7B-Instruct-v0.2",  # a name that equals in its last part may be another training
        "unsloth/mistral-7b-v0.2-bnb-4bit",
        "/data/models/base",
        "-4bit",
    ],
)
def test_other_bases(said):
    assert not same_base(said, [MISTRAL])


def test_paths_and_ids():
    assert all(map(is_local, ["/a", "./a", "../a", "~/a", "C:/a", "a\\b", "home/me/a"]))
    assert not any(map(is_local, ["a", "a/b", MISTRAL]))
