"""The packaged model runs without TensorFlow, and without heartseg."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from runtime_requirements import list_requirements

from heartseg.config.schema import Config
from heartseg.inference.postprocess import clean_up
from heartseg.labels import HVSMR
from heartseg.modelfile.checkpoint import save_model
from heartseg.modelfile.packaged import describe_packaged, load_packaged
from heartseg.pipelines.export import run_export
from heartseg.pipelines.infer import run_infer
from heartseg.runs.trained import load_segmenter
from heartseg.scans.volume import read_image

ROOT = Path(__file__).parents[1]
WITHOUT_KERAS = """
import sys
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"tensorflow", "keras"}:
            raise ImportError(name + " was imported")
sys.meta_path.insert(0, Refusing())
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    file = tmp_path_factory.mktemp("export") / "heart.onnx"
    result = run_export(None, format_name="onnx", output=file)
    assert result.voxels >= 48 * 64 * 48
    assert result.different <= 1e-4 * result.voxels
    assert result.second_file is not None
    return file


def run_without_keras(code, *arguments):
    command = [sys.executable, "-c", WITHOUT_KERAS + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_infer_with_the_packaged_model_imports_no_tensorflow(hvsmr2, tmp_path):
    scan = hvsmr2 / "cropped_norm/pat4_cropped_norm.nii.gz"
    code = "from heartseg.cli.app import main; main()"
    done = run_without_keras(code, "infer", scan, "--output", tmp_path, "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert "computing on the CPU with ONNX Runtime" in done.stderr
    assert (tmp_path / "pat4_seg.nii.gz").is_file()


def test_segment_imports_no_tensorflow(hvsmr2):
    code = "import heartseg; print(heartseg.segment(sys.argv[1]).volumes_ml['LV'] > 1)"
    done = run_without_keras(code, hvsmr2 / "cropped_norm/pat4_cropped_norm.nii.gz")
    assert done.stdout.strip() == "True", done.stderr


def test_the_guard_notices_an_import_of_keras():
    assert "keras was imported" in run_without_keras("import keras").stderr


@pytest.mark.parametrize(
    ("case", "settings"),
    [
        ("pat4", [("tensorflow", 0), ("onnx", 1), ("openvino", 0)]),
        ("pat58", [("tensorflow", 0), ("onnx", 2)]),
    ],
)
def test_runtimes_and_threads_give_the_same_labels(hvsmr2, case, settings):
    image = read_image(hvsmr2 / f"cropped_norm/{case}_cropped_norm.nii.gz")
    found = [
        load_segmenter(
            None,
            Config.model_validate({"infer": {"runtime": name}, "parallel": {"threads": threads}}),
        )
        .segment(image)
        .labels
        for name, threads in settings
    ]
    assert (found[0] > 0).mean() > 0.05
    for labels in found[1:]:
        assert (labels == found[0]).mean() >= 0.9999


@pytest.fixture(scope="module")
def exported_with_one_stage(tmp_path_factory):
    """The first stage of the packaged model as a model of its own."""
    folder = tmp_path_factory.mktemp("one_stage")
    metadata = {k: v for k, v in describe_packaged().metadata.items() if k != "second_stage"}
    config = Config.model_validate({"run_dir": folder / "run"})
    config.run_dir.mkdir()
    save_model(load_packaged(), config.run_dir / "best.keras", metadata)
    run_export(config, format_name="onnx", output=folder / "heart.onnx")
    assert len(list(folder.glob("*.onnx"))) == 1
    return folder / "heart.onnx"


@pytest.mark.parametrize(
    ("case", "model"),
    [("pat4", "exported"), ("pat58", "exported"), ("pat58", "exported_with_one_stage")],
)
def test_the_program_in_the_documentation_gives_the_label_map_of_infer(
    hvsmr2, request, tmp_path, case, model
):
    file = request.getfixturevalue(model)
    page = (ROOT / "docs/portable.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    imported = set(re.findall(r"^(?:import|from) (\w+)", program, flags=re.MULTILINE))
    assert imported == {"json", "sys", "nibabel", "numpy", "onnxruntime"}
    scan = hvsmr2 / f"cropped_norm/{case}_cropped_norm.nii.gz"
    (tmp_path / "segment.py").write_text(program)
    command = [sys.executable, "segment.py", file, scan, "labels.nii.gz"]
    subprocess.run(command, cwd=tmp_path, check=True)

    run_infer(Config(), [scan], output_dir=tmp_path / "own", model_file=file)

    own = nibabel.load(tmp_path / f"own/{case}_seg.nii.gz")
    other = nibabel.load(tmp_path / "labels.nii.gz")
    np.testing.assert_allclose(own.affine, other.affine, atol=1e-5)
    expected, found = (np.asarray(image.dataobj) for image in (own, other))
    # The page says that nothing else differs than components that lie apart, which are small.
    assert (expected != found).mean() <= 2e-3
    assert (expected != clean_up(found, HVSMR)).mean() <= 1e-5


def test_an_image_without_keras_gets_all_that_segmenting_needs(tmp_path):
    wheel = tmp_path / "heartseg-1-py3-none-any.whl"
    lines = ["tensorflow>=2.20", "keras<4,>=3", "numpy>=2", 'jax ; extra == "jax"']
    with zipfile.ZipFile(wheel, "w") as archive:
        metadata = "".join(f"Requires-Dist: {line}\n" for line in lines)
        archive.writestr("heartseg-1.dist-info/METADATA", f"Name: heartseg\n{metadata}")
    assert list_requirements(wheel) == ["numpy>=2"]
    copied = re.findall(r"^COPY (?!--)(.*) \./$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert copied == ["dist/*.whl constraints.txt tools/runtime_requirements.py"]
