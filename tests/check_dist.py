"""Build the distributions, install the wheel elsewhere, and use it there without a network.

``make dist-check`` runs it. The wheel is built from the source distribution; the dependencies are
those of the environment that runs this script.
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


def build(folder):
    """Return the wheel and the source distribution of the last commit."""
    source, builder = folder / "source", make_venv(folder / "builder")
    archive = folder / "source.tar"
    call("git", "archive", "--output", archive, "HEAD", cwd=REPOSITORY)
    with tarfile.open(archive) as packed:
        packed.extractall(source, filter="data")
    call(builder / "python", "-m", "pip", "install", "--quiet", "build", cwd=folder)
    call(builder / "python", "-m", "build", "--outdir", folder / "dist", source, cwd=folder)
    shutil.rmtree(source)
    (wheel,) = (folder / "dist").glob("*.whl")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    return wheel, sdist


def check_content(wheel, sdist):
    """Check that the wheel holds all of the package and nothing else, and the sdist its basics."""
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"heartseg/{file.relative_to(REPOSITORY / 'heartseg').as_posix()}"
        for file in (REPOSITORY / "heartseg").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    wanted |= {f"heartseg/configs/{file.name}" for file in (REPOSITORY / "configs").glob("*.yaml")}
    if wanted - names:
        sys.exit(f"{wheel.name} lacks {sorted(wanted - names)}")
    other = {name for name in names if not name.startswith(("heartseg/", "heartseg-"))}
    if other:
        sys.exit(f"{wheel.name} holds {sorted(other)}")
    with tarfile.open(sdist) as packed:
        held = {name.partition("/")[2] for name in packed.getnames()}
    if not {"LICENSE", "README.md", "pyproject.toml"} <= held:
        sys.exit(f"{sdist.name} lacks LICENSE, README.md or pyproject.toml")


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


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel, sdist = build(folder)
        check_content(wheel, sdist)
        use(folder, wheel)
    print(f"{wheel.name} and {sdist.name} are sound")  # noqa: T201


if __name__ == "__main__":
    main()
