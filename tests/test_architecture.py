"""Who may import whom, what the core may not do, and what `heartseg --help` may not load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import heartseg

PACKAGE = Path(heartseg.__file__).parent
BASE = {
    "labels",
    "label_tables",
    "errors",
    "files",
    "progress",
    "parallel",
    "hashing",
    "lock",
    "plurals",
    "surroundings",
    "native_notes",
    "opencv",
    "ownership",
    "palette",
}
CORE = {
    "scans": set(),
    "exchange": {"scans"},
    "surfaces": set(),
    "measurements": {"surfaces"},
    "networks": set(),
    "slices": {"scans"},
    "pictures": {"scans"},
    "cohort": {"scans", "slices"},
    "synthesis": {"scans", "slices"},
    "modelfile": {"cohort", "networks", "slices"},
    "training": {"modelfile", "networks", "pictures"},
    "pages": {"pictures", "scans", "surfaces"},
    "inference": {
        "cohort",
        "exchange",
        "measurements",
        "modelfile",
        "pages",
        "pictures",
        "scans",
        "slices",
        "surfaces",
    },
    "refinement": {"inference", "modelfile", "scans", "training"},
    "evaluation": {"pictures", "surfaces"},
}
MAY_IMPORT = {
    **CORE,
    "config": {"training"},
    "runs": {"config", *CORE} - {"evaluation"},
    "pipelines": {"runs", "config", *CORE},
    "study": {"pipelines", "runs", "config", *CORE},
    "api": {"runs", "config", *CORE},
    "cli": {"study", "pipelines", "config", *CORE},
}
HEAVY = ["tensorflow", "keras", "cv2", "sklearn", "scipy", "pydantic", "nibabel", "matplotlib"]


def imported_modules(tree):
    """Yield the full name of everything a module imports, wherever the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield "." * node.level
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def find_violations(module, source):
    """Return what a module's source does against the rules.

    Args:
        module: Dotted name below ``heartseg``, such as ``scans.volume``.
        source: Its text.
    """
    tree = ast.parse(source)
    room = module.split(".")[0]
    violations = []
    for name in imported_modules(tree):
        if name.startswith("."):
            violations.append(f"{module}: relative import")
        if name.split(".")[0] == "rich" and room != "cli":
            violations.append(f"{module}: imports rich")
        target = name.split(".")[1] if name.startswith("heartseg.") else None
        if target is None or target in BASE or target == "__version__":
            continue
        if room == "pipelines" and target == "pipelines":
            violations.append(f"{module}: a pipeline imports {name}")
        elif target != room and target not in MAY_IMPORT.get(room, set()):
            violations.append(f"{module}: imports {name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            violations.append(f"{module}: asserts")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in ("eval", "exec"):
                violations.append(f"{module}: calls {node.func.id}")
            if node.func.id == "print" and room != "cli":
                violations.append(f"{module}: prints")
        elif isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "everything"
            # To clean up and pass an error on is no silence.
            passed_on = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if caught in ("everything", "Exception", "BaseException") and not passed_on:
                violations.append(f"{module}: catches {caught}")
    return violations


def modules():
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")
        if name not in ("__init__", "__main__"):
            yield pytest.param(name, file, id=name)


@pytest.mark.parametrize(("module", "file"), list(modules()))
def test_a_module_keeps_to_the_rules(module, file):
    assert find_violations(module, file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("scans.volume", "from heartseg.config.schema import Config"),
        ("scans.volume", "import heartseg.pipelines.prepare"),
        ("scans.volume", "def read():\n    from heartseg.networks import unet"),
        ("scans.volume", "from heartseg import inference"),
        ("training.loop", "from heartseg.slices.dataset import build_dataset"),
        ("evaluation.report", "from heartseg.scans.volume import Volume"),
        ("evaluation.report", "from heartseg.inference.slice_prediction import predict"),
        ("measurements.structures", "from heartseg.inference.volumetry import VolumeRow"),
        ("surfaces.mesh", "from heartseg.measurements.diameters import Diameter"),
        ("inference.slice_prediction", "from heartseg.evaluation import overlap"),
        ("pages.page_writer", "from heartseg.inference.volumetry import VolumeRow"),
        ("pages.page_writer", "from heartseg.config.schema import Config"),
        ("pictures.previews", "from heartseg.pages.scan_page import ScanPage"),
        ("palette", "from heartseg.scans.geometry import Plane"),
        ("inference.slice_prediction", "from heartseg.config.schema import Config"),
        ("pipelines.score_model", "from heartseg.pipelines.infer import run_infer"),
        ("pipelines.score_model", "from heartseg.cli import console"),
        ("api.segmentation", "from heartseg.pipelines.infer import run_infer"),
        ("pipelines.train", "from heartseg.study.running import run_study"),
        ("runs.trained", "from heartseg.study.plan import plan_study"),
        ("api.segmentation", "print('done')"),
        ("runs.trained", "from heartseg.api.segmentation import segment"),
        ("config.schema", "from heartseg.scans.geometry import Plane"),
        ("runs.slice_training", "from heartseg.pipelines.train import run_training"),
        ("training.loop", "from heartseg.runs.folder import CONFIG"),
        ("files", "from heartseg.scans.volume import Volume"),
        ("labels", "from heartseg.config.schema import Config"),
        ("scans.volume", "from .store import read_gray"),
        ("scans.volume", "print('done')"),
        ("pipelines.train", "from rich.console import Console"),
        ("cli.app", "eval('1')"),
        ("scans.volume", "assert True"),
        ("scans.volume", "try:\n    pass\nexcept:\n    pass"),
        ("scans.volume", "try:\n    pass\nexcept Exception:\n    pass"),
    ],
)
def test_the_guard_finds_a_breach(module, source):
    assert len(find_violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("cli.app", "from heartseg.pipelines.train import run_training\nprint(1)\nimport rich"),
        ("pipelines.train", "from heartseg.config.schema import Config"),
        ("study.fold", "from heartseg.pipelines.train import run_training"),
        ("api.segmentation", "from heartseg.runs.layout import RunLayout"),
        ("scans.volume", "try:\n    pass\nexcept BaseException:\n    pass\n    raise"),
        ("inference.slice_prediction", "from heartseg.slices.recipe import SliceRecipe"),
        (
            "training.loop",
            "from heartseg.errors import ModelError\nfrom heartseg.networks import unet",
        ),
        ("pages.page_writer", "from heartseg.pictures.previews import preview_sheet"),
        ("inference.answer_page", "from heartseg.pages.scan_page import ScanPage"),
        ("labels", "from heartseg.palette import distinct_colors"),
        ("evaluation.report", "import numpy as np\nfrom heartseg.labels import LabelTable"),
    ],
)
def test_the_guard_lets_the_right_way_pass(module, source):
    assert find_violations(module, source) == []


def test_help_loads_nothing_heavy():
    script = (
        "import sys\nsys.argv = ['heartseg', '--help']\n"
        "from heartseg.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    code = end.code\n"
        f"print('LOADED', code, sorted(set({HEAVY}) & set(sys.modules)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ran.stdout.splitlines()[-1] == "LOADED 0 []", ran.stderr
    assert "prepare" in ran.stdout
