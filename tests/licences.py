"""The licences of everything that is installed with heartseg, as the packages state them.

``python tests/licences.py`` writes docs/licences.md again.
"""

import sys
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TABLE = Path(__file__).parents[1] / "docs/licences.md"
ALLOWED = {"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT"}
ALLOWED |= {"MIT-CMU", "PSF-2.0", "Zlib", "BSD"}
# Changes to its own files must be published; heartseg changes none and contains none.
ALLOWED |= {"MPL-2.0"}
STATED = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "BSD 3-Clause": "BSD-3-Clause",
    "BSD 3-Clause License": "BSD-3-Clause",
    "ISC License": "ISC",
    "MIT License": "MIT",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: BSD License": "BSD",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "License :: OSI Approved :: Python Software Foundation License": "PSF-2.0",
}
ONLY_IN_A_FILE = {"namex": "Licensed under the Apache License, Version 2.0"}
"""Packages without a licence in their metadata, and a sentence of their licence file."""
HEAD = """# Licences of the dependencies

Written by `python tests/licences.py` from what the packages themselves state; a test fails where a
package states no licence, another one, or one that is not allowed. Packages that only some versions
of Python need are missing. Beside these, the option `[gpu]` installs NVIDIA's libraries, which
are proprietary and free to use.

| package | licence | for |
|---|---|---|
"""


def find_dependencies(extras=()):
    """Return every distribution that heartseg needs, except itself, by canonical name."""
    seen, pending = set(), [("heartseg", extra) for extra in ("", *extras)]
    while pending:
        name, extra = pending.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for line in distribution(name).requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                key = canonicalize_name(requirement.name)
                pending += [(key, wanted) for wanted in ("", *requirement.extras)]
    return {name: distribution(name) for name, _ in seen if name != "heartseg"}


def licence_of(package: Distribution):
    """Return the licence that a package states; None if that is missing or unknown."""
    facts = package.metadata
    stated = [facts.get("License-Expression"), (facts.get("License") or "").partition("\n")[0]]
    stated += [c for c in facts.get_all("Classifier") or () if c.startswith("License ::")]
    for text in stated:
        licence = STATED.get(text, text)
        if licence and is_allowed(licence):
            return licence
    words = ONLY_IN_A_FILE.get(facts["Name"])
    files = [file for file in package.files or () if file.name == "LICENSE"]
    if words and any(words in file.read_text() for file in files):
        return "Apache-2.0"
    return None


def is_allowed(expression):
    """Return whether all parts of a licence expression are allowed, or of one of its choices."""
    choices = (choice.split(" AND ") for choice in expression.split(" OR "))
    return any(all(part.strip("() ") in ALLOWED for part in parts) for parts in choices)


def write_table():
    """Write one row per package."""
    everywhere, testing = find_dependencies(), find_dependencies(("test",))
    rows = [
        f"| {name} | {licence_of(package)} | {'running' if name in everywhere else 'tests'} |\n"
        for name, package in sorted(testing.items())
    ]
    TABLE.write_text(HEAD + "".join(rows), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(write_table())
