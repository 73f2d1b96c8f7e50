"""The examples in docstrings hold."""

import doctest
import importlib
import pkgutil

import pytest

import corella

MODULES = sorted(m.name for m in pkgutil.walk_packages(corella.__path__, "corella.") if not m.name.endswith("__main__"))


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [t for name in MODULES for t in finder.find(importlib.import_module(name)) if t.examples]
    assert len(found) >= 10
