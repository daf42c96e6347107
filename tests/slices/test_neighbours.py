from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import pytest
from builders import make_config, make_scan, write_case, write_slices

from heartseg.errors import DataError
from heartseg.labels import HVSMR
from heartseg.pipelines.prepare import run_prepare
from heartseg.pipelines.split import run_split
from heartseg.runs.slice_kind import find_slices
from heartseg.scans.volume import Volume
from heartseg.slices.augment import Augmentation, augment_slice
from heartseg.slices.dataset import build_dataset
from heartseg.slices.neighbours import neighbours, stack_files, stack_slices
from heartseg.slices.pairs import find_pairs, read_pairs
from heartseg.slices.recipe import PreparedVolume, SliceRecipe

SIZE = (8, 12)


@pytest.mark.parametrize(
    ("index", "count", "context", "expected"),
    [
        (3, 9, 0, [3]),
        (3, 9, 1, [2, 3, 4]),
        (0, 9, 2, [2, 1, 0, 1, 2]),
        (8, 9, 2, [6, 7, 8, 7, 6]),
        (1, 2, 3, [0, 1, 0, 1, 0, 1, 0]),
        (0, 1, 2, [0, 0, 0, 0, 0]),
    ],
)
def test_the_ends_of_a_scan_are_mirrored(index, count, context, expected):
    assert neighbours(index, count, context) == expected
    assert neighbours(index, count, context, ascending=False) == expected[::-1]


def test_each_slice_of_a_scan_is_read_once():
    asked = []

    def read(index):
        asked.append(index)
        return np.full((2, 3), index, np.uint8)

    stacks = list(stack_slices(read, 5, 2))
    assert sorted(asked) == [0, 1, 2, 3, 4]
    assert [stack[:, 0, 0].tolist() for stack in stacks] == [
        neighbours(index, 5, 2) for index in range(5)
    ]


@pytest.mark.parametrize("names", [["a_000", "a_002"], ["a_001", "a_002"]])
def test_a_missing_slice_between_neighbours_is_an_error_that_says_what_to_do(names):
    files = [Path("images") / f"{name}.png" for name in names]
    with pytest.raises(DataError, match=r"gaps between a_00.*prepare\.keep_empty: true"):
        stack_files(files, 1)
    with pytest.raises(DataError, match=r"expected a name like CASE_000\.png"):
        stack_files([Path("a_x.png")], 1)


def test_neighbours_are_of_the_same_case_and_become_channels(tmp_path):
    write_slices(tmp_path, ["a_000", "a_001", "a_002", "b_000", "b_001"], SIZE)
    pairs = find_pairs(tmp_path, context=1, descending=["b"])
    expected = [[10, 0, 10], [0, 10, 20], [10, 20, 10], [40, 30, 40], [30, 40, 30]]
    images, _ = read_pairs(pairs, HVSMR, SIZE)
    assert images[:, :, 0, 0].tolist() == expected

    batches = build_dataset(pairs, table=HVSMR, image_size=SIZE, image_channels=3, batch_size=2)
    channels = np.concatenate([batch.numpy()[:, 5, 7] for batch, _ in batches])
    np.testing.assert_allclose(channels * 255, expected, rtol=1e-6)


def test_augmentation_moves_a_slice_and_its_neighbours_alike():
    image = np.random.default_rng(1).random((16, 20)).astype(np.float32)
    labels = np.zeros((16, 20), np.uint8)
    settings = Augmentation(
        flip_horizontal=True, rotation_degrees=30, elastic_alpha=3, blur_sigma=1, gamma=0.3
    )
    alone, _ = augment_slice(image, labels, settings, np.random.default_rng(4))
    stack, _ = augment_slice(np.stack([image] * 5), labels, settings, np.random.default_rng(4))
    assert not np.allclose(alone, image, atol=0.05)
    for plane in stack:
        np.testing.assert_allclose(plane, alone, atol=1e-6)


@pytest.mark.parametrize(
    ("plane", "axes"),
    [*product(["sagittal", "coronal", "axial"], ["PIR", "ASL", "RAS", "LPI"])],
)
def test_training_and_inference_see_the_same_neighbours_in_any_orientation(tmp_path, plane, axes):
    anatomy = make_scan()
    scan = anatomy.turned(axes)
    write_case(tmp_path / "volumes", "pat1", scan)
    lists = {"train_cases": ["pat1"], "valid_cases": [], "test_cases": []}
    config = make_config(
        tmp_path,
        {
            "prepare": {"keep_empty": True, "plane": plane},
            "model": {"context": 2},
            "split": lists,
        },
    )
    run_prepare(config)
    run_split(config)
    pairs, _ = find_slices(config)
    trained, _ = read_pairs(pairs, HVSMR, (32, 24))

    def see(stored):
        image = stored.image.astype(np.float32)
        volume = Volume(image, stored.affine, nibabel.Nifti1Header())
        return list(PreparedVolume(volume, SliceRecipe.from_dict(config.recipe_values)).stacks())

    np.testing.assert_array_equal(trained, see(scan))
    # However a file stores it, the channels run the same way through the patient.
    stacks, as_stored = see(anatomy.turned("RAS")), see(scan)
    step = 1 if np.array_equal(stacks[0], as_stored[0]) else -1
    np.testing.assert_array_equal(as_stored[::step], stacks)
