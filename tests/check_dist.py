"""Check the distributions of a folder, install the wheel elsewhere, and use it there offline.

``make dist-check`` builds and checks them: ``python tests/check_dist.py dist``. The dependencies
are those of the environment that runs this script.
"""

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def call(*command, cwd):
    print("+", *command, flush=True)  # noqa: T201
    subprocess.run(command, cwd=cwd, check=True)


def make_venv(folder):
    venv.create(folder, with_pip=True)
    return folder / ("Scripts" if sys.platform == "win32" else "bin")


def find_one(folder, pattern):
    """Return the one file of a pattern."""
    found = [file.resolve() for file in folder.glob(pattern)]
    if len(found) != 1:
        sys.exit(f"{folder}: expected one {pattern}, found {len(found)}; run `make dist`")
    return found[0]


def check_content(wheel, sdist):
    """Check that the wheel holds all of the package and nothing else, and the sdist all of it too.

    Both hold the weights, which lie in the package, and the configurations.
    """
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"heartseg/{file.relative_to(REPOSITORY / 'heartseg').as_posix()}"
        for file in (REPOSITORY / "heartseg").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    configs = {f"configs/{file.name}" for file in (REPOSITORY / "configs").glob("*.yaml")}
    basics = {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml", "setup.py"}
    lacking = (wanted | configs | basics) - read_names(sdist)
    if lacking:
        sys.exit(f"{sdist.name} lacks {sorted(lacking)}")
    wanted |= {f"heartseg/configs/{file.name}" for file in (REPOSITORY / "configs").glob("*.yaml")}
    if wanted - names:
        sys.exit(f"{wheel.name} lacks {sorted(wanted - names)}")
    other = {name for name in names if not name.startswith(("heartseg/", "heartseg-"))}
    if other:
        sys.exit(f"{wheel.name} holds {sorted(other)}")


def read_names(sdist):
    """Return the names in a source distribution, without its top folder."""
    with tarfile.open(sdist) as packed:
        return {name.partition("/")[2] for name in packed.getnames()}


def use(folder, wheel):
    """Install the wheel and run it in a folder without sources, cut off from any network."""
    fresh = make_venv(folder / "fresh")
    call(
        fresh / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        wheel,
        cwd=folder,
    )
    # A plain path, so that packages installed there in editable form are not found.
    dependencies = sysconfig.get_path("purelib")
    (site,) = folder.glob("fresh/**/site-packages")
    (site / "dependencies.pth").write_text(f"{dependencies}\n")
    work = folder / "elsewhere"
    work.mkdir()
    offline = ("unshare", "--net") if shutil.which("unshare") else ()
    if offline and subprocess.run([*offline, "true"], capture_output=True, check=False).returncode:
        offline = ()
    print("network cut off:", bool(offline))  # noqa: T201
    where = "import heartseg, sys; sys.exit(not heartseg.__file__.startswith(sys.prefix))"
    call(*offline, fresh / "python", "-c", where, cwd=work)
    heartseg = (*offline, fresh / "heartseg")
    call(*heartseg, "--version", cwd=work)
    call(*heartseg, "config", "recommended", cwd=work)
    call(*heartseg, "synth", "volumes", "--patients", "1", "--size", "32", cwd=work)
    call(*heartseg, "infer", "volumes", "--output", "found", cwd=work)
    scored = ("--predictions", "found", "--references", "volumes", "--output", "scores")
    call(*heartseg, "evaluate", *scored, cwd=work)
    if not (work / "found/pat0_seg.nii.gz").is_file():
        sys.exit("no label map was made")


def main(dist):
    wheel, sdist = find_one(dist, "heartseg-*.whl"), find_one(dist, "heartseg-*.tar.gz")
    check_content(wheel, sdist)
    with tempfile.TemporaryDirectory() as name:
        use(Path(name), wheel)
    print(f"{wheel.name} and {sdist.name} are sound")  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "dist"))
