from email.message import Message
from pathlib import Path
from types import SimpleNamespace

import pytest
from licences import TABLE, find_dependencies, is_allowed, licence_of

PINS = Path(__file__).parents[1] / "constraints.txt"
# Tools of the environment, in whatever version it has.
UNPINNED = {"setuptools", "wheel"}


def test_every_dependency_has_an_allowed_licence_which_the_table_lists():
    rows = [line.split(" | ") for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    table = {row[0].removeprefix("| "): row[1] for row in rows}
    packages = find_dependencies(("test",))
    assert len(packages) > 60
    found = {name: licence_of(package) for name, package in packages.items()}
    assert [name for name, licence in found.items() if licence is None] == []
    # Other versions of Python may need a few packages that the table does not list.
    assert {name: licence for name, licence in found.items() if name in table} == {
        name: table[name] for name in found if name in table
    }
    assert len(found.keys() - table.keys()) <= 5


def test_every_dependency_is_pinned():
    pinned = {line.partition("==")[0].lower() for line in PINS.read_text().splitlines()}
    needed = {name.lower() for name in find_dependencies(("test",))}
    assert needed - pinned <= UNPINNED


@pytest.mark.parametrize(
    ("stated", "licence"),
    [
        ({"License-Expression": "MIT"}, "MIT"),
        ({"License-Expression": "GPL-3.0-only OR MIT"}, "GPL-3.0-only OR MIT"),
        ({"License-Expression": "MIT AND GPL-3.0-only"}, None),
        ({"License": "Apache 2.0\nand more"}, "Apache-2.0"),
        ({"License": "AGPL"}, None),
        ({"Classifier": "License :: OSI Approved :: GNU General Public License (GPL)"}, None),
        ({}, None),
    ],
)
def test_unknown_and_forbidden_licences_are_noticed(stated, licence):
    metadata = Message()
    for key, value in {"Name": "x", **stated}.items():
        metadata[key] = value
    assert licence_of(SimpleNamespace(metadata=metadata, files=())) == licence


def test_a_choice_needs_one_allowed_licence_and_a_combination_needs_all():
    assert is_allowed("Apache-2.0 OR GPL-2.0-only")
    assert not is_allowed("Apache-2.0 AND GPL-2.0-only")
