"""List what a wheel of heartseg needs to segment with the packaged model: all but what trains.

``python tools/runtime_requirements.py heartseg-*.whl`` prints one requirement per line, for an
image without Keras. It needs Python only.
"""

import re
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

FOR_TRAINING = frozenset({"keras", "tensorboard", "tensorflow"})


def list_requirements(wheel: Path) -> list[str]:
    """Return the requirements of a wheel, without its extras and without what only trains.

    Raises:
        StopIteration: If the file is no wheel.
    """
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        facts = Parser().parsestr(archive.read(name).decode("utf-8"))
    needed = [line for line in facts.get_all("Requires-Dist") or () if "extra ==" not in line]
    return [line for line in needed if name_of(line) not in FOR_TRAINING]


def name_of(requirement: str) -> str:
    """Return the name of the package that a requirement asks for."""
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()


if __name__ == "__main__":
    sys.stdout.write("".join(f"{line}\n" for line in list_requirements(Path(sys.argv[1]))))
