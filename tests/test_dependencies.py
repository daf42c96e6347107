"""Every package that heartseg imports is declared in pyproject.toml."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest

if sys.version_info < (3, 11):
    pytest.skip("reads pyproject.toml by tomllib, of Python 3.11", allow_module_level=True)

import tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
COMES_WITH = {"dask": "distributed"}
"""Packages that are installed with another one, which is declared."""


def find_imports(source):
    """Return the top-level packages that a module's text imports, wherever the import stands."""
    imports = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imports |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imports.add(node.module.partition(".")[0])
    return imports - set(sys.stdlib_module_names) - {"heartseg"}


def read_declared():
    lines = chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    return {re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in lines}


def test_every_imported_package_is_declared():
    imported = set().union(
        *(
            find_imports(file.read_text(encoding="utf-8"))
            for file in (ROOT / "heartseg").rglob("*.py")
        )
    )
    assert {"h5py", "numpy", "cv2"} <= imported
    names = packages_distributions()
    declared = read_declared()
    missing = {
        package
        for package in imported
        if COMES_WITH.get(package) not in declared
        and not {name.lower().replace("_", "-") for name in names.get(package, [package])}
        & declared
    }
    assert missing == set()


def test_the_guard_finds_imports_within_functions():
    source = "import os\ndef read():\n    from h5py.h5o import get_info\n    import cv2 as cv"
    assert find_imports(source) == {"h5py", "cv2"}
