"""The options of ``infer`` are keys of the configuration."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from heartseg.cli.app import app
from heartseg.pipelines import infer
from heartseg.pipelines.infer import InferResult


@pytest.fixture
def call(monkeypatch, tmp_path):
    """Return a function that runs ``infer`` without a model and returns what it is given."""
    seen = []

    def run_infer(config, inputs, **_options):
        seen.append(config.infer)
        files = {"a": tuple(Path(f"a_{number}.stl") for number in range(9))}
        return InferResult(tmp_path, 0, 1, (), files, "CPU")

    monkeypatch.setattr(infer, "run_infer", run_infer)

    def invoke(*options):
        result = CliRunner().invoke(app, ["infer", "a.nii", *options])
        return result, seen[-1] if seen else None

    return invoke


def test_formats_are_written_beside_those_of_the_configuration(call):
    usual = ("label_map", "preview", "numbers")

    _, section = call("--surfaces", "--slicer", "--report", "--split", "--dicom-seg")
    assert tuple(section.outputs) == (
        *usual,
        *("report", "surfaces", "slicer", "split", "dicom_seg"),
    )
    assert tuple(call()[1].outputs) == usual
    twice = call("--report", "--set", "infer.outputs=[report]")[1]
    assert tuple(twice.outputs) == ("report",)


def test_options_with_a_value_set_their_keys(call):
    _, plain = call()
    _, section = call(
        *("--structures", "LV,RV", "--height", "110.5", "--weight", "18", "--diameters")
    )

    assert (plain.structures, plain.height_cm, plain.bsa_m2, plain.diameters) == (
        *[None] * 3,
        False,
    )
    assert section.structures == ("LV", "RV")
    assert (section.height_cm, section.weight_kg, section.diameters) == (110.5, 18, True)
    assert call("--bsa", "0.75")[1].bsa_m2 == 0.75


def test_a_setting_in_two_ways_is_wrong_usage(call):
    result, _ = call("--height", "110", "--set", "infer.height_cm=120")

    assert result.exit_code == 2
    assert "leave out --set" in result.stderr


def test_the_line_of_a_scan_names_its_first_files(call):
    result, _ = call()

    assert "a_0.stl, a_1.stl, a_2.stl, a_3.stl, a_4.stl and 4 other files" in result.stdout
