"""The docstring examples of the numerical rooms run; every distance, operator and combiner has one."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from importlib import import_module

import pytest

from lorameta.combiner import COMBINERS
from lorameta.distance import DISTANCES
from lorameta.operator import OPERATORS

ROOMS = ("distance", "combiner", "operator", "encoder", "adapter")
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def modules() -> list[str]:
    found = []
    for room in ROOMS:
        package = importlib.import_module(f"lorameta.{room}")
        found += [
            package.__name__,
            *(module.name for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")),
        ]
    return found


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module_run(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=OPTIONS, raise_on_error=False)
    assert result.failed == 0, f"python -m doctest shows what {name} printed instead"


def has_example(function) -> bool:
    return bool(doctest.DocTestFinder().find(function, globs={})) and ">>>" in (function.__doc__ or "")


@pytest.mark.parametrize("name", DISTANCES)
def test_every_distance_has_an_example(name):
    assert has_example(getattr(import_module(f"lorameta.distance.{name}"), name))


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_has_an_example(name):
    assert any(found.examples for found in doctest.DocTestFinder().find(OPERATORS[name].module))


@pytest.mark.parametrize("name", COMBINERS)
def test_every_combiner_has_an_example(name):
    assert has_example(COMBINERS[name])
