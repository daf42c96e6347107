"""Write the version of heartseg into a list of its parts (CycloneDX, JSON).

``python tools/complete_sbom.py FILE``: the program that makes the list reads pyproject.toml, where
the version does not stand.
"""

import json
import sys
from pathlib import Path

import heartseg


def complete(file: Path) -> None:
    """Add version and package URL to the component that the list is of."""
    content = json.loads(file.read_text(encoding="utf-8"))
    version = heartseg.__version__
    content["metadata"]["component"] |= {
        "version": version,
        "purl": f"pkg:pypi/heartseg@{version}",
    }
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    complete(Path(sys.argv[1]))
