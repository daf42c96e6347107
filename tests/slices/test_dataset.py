import cv2
import numpy as np
import pytest
from builders import write_slices

from heartseg.errors import DataError
from heartseg.labels import HVSMR
from heartseg.slices.augment import Augmentation
from heartseg.slices.batches import Share, data_errors
from heartseg.slices.dataset import SCALE, build_dataset, build_training_dataset
from heartseg.slices.pairs import find_pairs
from heartseg.slices.store import write_color, write_gray
from heartseg.synthesis.heart_dataset import build_fixed_dataset
from heartseg.synthesis.rendering import Sample

SIZE = (8, 12)
OPTIONS = {"table": HVSMR, "image_size": SIZE, "image_channels": 1, "batch_size": 2}


@pytest.fixture
def names():
    return ["pat2_009", "pat2_010", "pat10_001", "pat10_002", "pat11_000"]


@pytest.fixture
def part_dir(tmp_path, names):
    write_slices(tmp_path, names[::-1], SIZE)
    return tmp_path


def grey_levels(dataset, num_batches):
    return [
        [round(float(image[0, 0, 0]) * 255) for image in images.numpy()]
        for images, _ in dataset.take(num_batches)
    ]


@pytest.mark.parametrize("channels", [1, 3])
def test_batches_hold_intensities_and_exact_labels(tmp_path, channels):
    drawn = write_slices(tmp_path, ["a_0", "a_1", "a_2"], SIZE)
    dataset = build_dataset(find_pairs(tmp_path), **OPTIONS | {"image_channels": channels})
    batches = [(images.numpy(), labels.numpy()) for images, labels in dataset]

    assert [len(images) for images, _ in batches] == [2, 1]
    images = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    assert images.shape == (3, *SIZE, channels)
    assert images.dtype == np.float32
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, list(drawn.values()))
    np.testing.assert_allclose(images[:, 0, 0, -1], [0, 10 / 255, 20 / 255], rtol=1e-6)


def test_a_pass_has_a_known_number_of_batches(part_dir):
    assert build_dataset(find_pairs(part_dir), **OPTIONS).cardinality() == 3


def test_no_thread_that_tunes_tf_data_delays_the_end_of_an_iteration(part_dir):
    pairs = find_pairs(part_dir)
    heart = Sample(np.zeros((4, 4, 4, 1), np.float32), np.zeros((4, 4, 4, 9), np.float32))
    for batches in (
        build_dataset(pairs, **OPTIONS),
        build_training_dataset(pairs, seed=1, **OPTIONS),
        build_fixed_dataset([heart]),
    ):
        assert batches.options().autotune.enabled is False


def test_an_unknown_colour_is_an_error_with_file_pixel_and_colour(part_dir):
    colors = HVSMR.colorize(np.zeros(SIZE, np.uint8))
    colors[3, 5] = (1, 2, 3)
    write_color(part_dir / "masks" / "pat10_001.png", colors)
    with (
        pytest.raises(DataError, match=r"pat10_001.png.*\(3, 5\).*\(1, 2, 3\)") as caught,
        data_errors(),
    ):
        list(build_dataset(find_pairs(part_dir), **OPTIONS))
    assert "Traceback" not in str(caught.value)


def test_a_broken_png_and_a_wrong_size_are_errors_with_the_file(part_dir):
    (part_dir / "images" / "pat2_009.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(DataError, match=r"pat2_009.png: not a readable"), data_errors():
        list(build_dataset(find_pairs(part_dir), **OPTIONS))
    write_gray(part_dir / "images" / "pat2_009.png", np.zeros((8, 8), np.uint8))
    wrong_size = r"pat2_009.png: expected 12 x 8.*found 8 x 8"
    with pytest.raises(DataError, match=wrong_size), data_errors():
        list(build_dataset(find_pairs(part_dir), **OPTIONS))


def test_a_resumed_run_gets_the_batches_of_an_uninterrupted_one(part_dir):
    pairs = find_pairs(part_dir)
    options = {**OPTIONS, "seed": 7, "augmentation": Augmentation(noise=0.2, flip_vertical=True)}
    whole = list(build_training_dataset(pairs, **options).take(9))
    resumed = list(build_training_dataset(pairs, **options, first_epoch=1).take(6))
    for (images, labels), (same_images, same_labels) in zip(whole[3:], resumed, strict=True):
        np.testing.assert_array_equal(images, same_images)
        np.testing.assert_array_equal(labels, same_labels)


def test_the_shares_of_all_processes_are_the_batches_of_a_single_process(part_dir):
    pairs = find_pairs(part_dir)[:4]
    options = {**OPTIONS, "seed": 7, "steps_per_epoch": 3, "augmentation": Augmentation(noise=0.2)}
    whole = build_training_dataset(pairs, **options).take(6)
    shares = [
        build_training_dataset(pairs, **options, share=Share(index, 2)).take(6) for index in (0, 1)
    ]
    for (images, labels), *parts in zip(whole, *shares, strict=True):
        assert [len(part) for part, _ in parts] == [1, 1]
        np.testing.assert_array_equal(images, np.concatenate([part for part, _ in parts]))
        np.testing.assert_array_equal(labels, np.concatenate([part for _, part in parts]))


def test_a_batch_holds_slices_of_one_epoch_only(part_dir):
    dataset = build_training_dataset(find_pairs(part_dir), **OPTIONS, seed=1)
    batches = grey_levels(dataset, 6)
    assert [len(batch) for batch in batches] == [2, 2, 1, 2, 2, 1]
    for epoch in (batches[:3], batches[3:]):
        assert sorted(level for batch in epoch for level in batch) == [0, 10, 20, 30, 40]


def test_real_slices_are_decoded_to_labels(hvsmr2):
    pairs = find_pairs(hvsmr2 / "slices")
    dataset = build_dataset(pairs, **OPTIONS | {"image_size": (512, 512)})
    with data_errors():
        images, labels = next(iter(dataset))
    assert images.shape == (2, 512, 512, 1)
    assert labels.numpy().max() < HVSMR.num_classes
    assert (labels.numpy() > 0).any()


def test_a_batch_may_mix_pictures_of_several_encoders(tmp_path):
    drawn = write_slices(tmp_path, ["a_0", "a_1"], SIZE)
    levels = np.arange(96, dtype=np.uint8).reshape(SIZE)
    # As another program writes them: 16 bits, and colours encoded by OpenCV.
    cv2.imwrite(str(tmp_path / "images" / "a_1.png"), levels.astype(np.uint16) * 257)
    colors = HVSMR.colorize(drawn["a_1"])[..., ::-1]
    cv2.imwrite(str(tmp_path / "masks" / "a_1.png"), np.ascontiguousarray(colors))
    (batch,) = build_dataset(find_pairs(tmp_path), **OPTIONS | {"image_channels": 3})
    images, labels = (part.numpy() for part in batch)
    np.testing.assert_array_equal(labels, list(drawn.values()))
    np.testing.assert_array_equal(images[0], 0)
    for channel in range(3):
        np.testing.assert_array_equal(images[1, ..., channel], levels * SCALE)
