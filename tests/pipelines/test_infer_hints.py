"""``infer`` with what is known of a heart, on a real scan and the packaged model."""

import csv
import json
import logging

import numpy as np
import pytest

from heartseg.config.schema import Config
from heartseg.errors import ConfigError
from heartseg.inference.volumetry import VOLUMES
from heartseg.labels import HVSMR
from heartseg.pipelines.infer import run_infer
from heartseg.scans.volume import UNLABELLED, read_label_map


@pytest.fixture(scope="module")
def hinted(hvsmr2, tmp_path_factory):
    """Results of a scan whose table of hints is wrong: pat4 has a right ventricle."""
    folder = tmp_path_factory.mktemp("hinted")
    hints = folder / "hints.csv"
    hints.write_text("case,absent,diagnosis\npat4,RV,Glenn\npat9,RA,\n", encoding="utf-8")
    settings = {
        "absent": ["LV"],
        "hints": str(hints),
        "outputs": ["label_map", "numbers", "report", "suggestion"],
    }
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("heartseg")
    logger.addHandler(handler)
    run_infer(
        Config.model_validate({"infer": settings}),
        [hvsmr2 / "cropped_norm" / "pat4_cropped_norm.nii.gz"],
        output_dir=folder / "out",
        packaged=True,
    )
    logger.removeHandler(handler)
    return folder / "out", messages


def test_a_row_of_the_table_stands_in_for_the_hints_of_all_cases(hinted):
    folder, messages = hinted

    labels = read_label_map(folder / "pat4_seg.nii.gz", HVSMR).voxels

    assert set(np.unique(labels)) == {0, 1, 3, 4, 5, 6, 7, 8}
    assert any("no input is of the case pat9" in message for message in messages)


def test_a_wrong_hint_is_named_in_the_numbers_the_page_and_the_log(hinted):
    folder, messages = hinted

    numbers = json.loads((folder / "pat4.json").read_text())
    page = (folder / "pat4_report.html").read_text()

    assert numbers["declared_absent"] == ["RV"]
    [notice] = [text for text in numbers["notices"] if "declared absent" in text]
    assert notice.startswith("RV declared absent; ")
    assert "of the heart was likely RV" in notice
    assert notice in page
    assert any(notice in message for message in messages)


def test_the_label_map_to_correct_holds_the_answer_on_the_listed_slices_only(hinted):
    folder, _ = hinted

    template = read_label_map(folder / "pat4_suggested.nii.gz", HVSMR, partial=True).voxels
    answer = read_label_map(folder / "pat4_seg.nii.gz", HVSMR).voxels

    with (folder / "pat4_suggested.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    known = np.zeros(template.shape, bool)
    for row in rows:
        np.moveaxis(known, int(row["axis"]), 0)[int(row["slice"])] = True
    assert len(rows) == 5
    np.testing.assert_array_equal(template != UNLABELLED, known)
    np.testing.assert_array_equal(template[known], answer[known])


def test_hints_that_cannot_be_true_are_errors_before_anything_is_written(hvsmr2, tmp_path):
    config = Config.model_validate({"infer": {"diagnosis": ["single ventricel"]}})

    with pytest.raises(ConfigError, match="the diagnosis 'single ventricel' is not known"):
        run_infer(
            config,
            [hvsmr2 / "cropped_norm" / "pat4_cropped_norm.nii.gz"],
            output_dir=tmp_path,
            packaged=True,
        )
    assert not (tmp_path / VOLUMES).exists()
