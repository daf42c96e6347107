import json
from dataclasses import replace

import pytest

from heartseg.errors import DataError
from heartseg.slices.prepared import PreparedState, read_prepared_state, write_prepared_state

STATE = PreparedState(
    recipe={"plane": "sagittal", "image_height": 32},
    keep_empty=True,
    labels=[{"value": 1, "key": "LV"}],
    complete=True,
    sources={"pat1": "123 456"},
    label_hashes={"pat1": "a"},
    image_hashes={"pat1": "b"},
    grids={"pat1": {"shape": [4, 5, 6]}},
)


def test_a_record_is_read_as_it_was_written(tmp_path):
    write_prepared_state(tmp_path, STATE)
    assert read_prepared_state(tmp_path) == STATE


def test_a_folder_without_a_record_has_none(tmp_path):
    assert read_prepared_state(tmp_path) is None


def test_a_record_without_later_additions_is_read(tmp_path):
    (tmp_path / "prepare.json").write_text('{"recipe": {"plane": "axial"}}')
    state = read_prepared_state(tmp_path)
    assert state == PreparedState({"plane": "axial"}, keep_empty=False, labels=[])
    assert not state.complete


@pytest.mark.parametrize("content", [{"recipe": 3}, {"cases": [1]}, {"label_sha256": 5}])
def test_a_damaged_record_is_refused_with_advice(tmp_path, content):
    (tmp_path / "prepare.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"prepare\.json: .*pass --overwrite"):
        read_prepared_state(tmp_path)


def test_only_what_changes_the_slices_makes_folders_differ():
    assert STATE.is_made_like(replace(STATE, complete=False, sources={}, label_hashes={}))
    assert not STATE.is_made_like(replace(STATE, recipe={"plane": "axial"}))
    assert not STATE.is_made_like(replace(STATE, keep_empty=False))
    assert not STATE.is_made_like(replace(STATE, labels=[]))
