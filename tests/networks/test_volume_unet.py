from itertools import pairwise

import keras
import numpy as np
import pytest

from heartseg.networks.volume_unet import build_volume_unet, depth_to_space, space_to_depth


def build_small(**options):
    return build_volume_unet(grid=(8, 12, 4), filters=(8, 16), num_classes=3, **options)


def test_logits_have_the_shape_of_the_image_and_float32():
    model = build_small(seed=0)
    images = np.random.default_rng(0).random((2, 8, 12, 4, 1), np.float32)

    logits = keras.ops.convert_to_numpy(model(images))

    assert logits.shape == (2, 8, 12, 4, 3)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


def test_logits_stay_float32_in_mixed_precision():
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        model = build_small(seed=0)
    finally:
        keras.mixed_precision.set_dtype_policy(before)

    assert model.output.dtype == "float32"


def test_equal_seeds_give_equal_weights():
    first, second, other = build_small(seed=1), build_small(seed=1), build_small(seed=2)

    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(
        (a != b).any() for a, b in zip(first.get_weights(), other.get_weights(), strict=True)
    )


def test_blocks_of_voxels_become_channels_and_voxels_again():
    inputs = keras.Input((4, 6, 2, 3))
    model = keras.Model(inputs, [space_to_depth(inputs), depth_to_space(space_to_depth(inputs))])
    voxels = np.arange(4 * 6 * 2 * 3, dtype=np.float32).reshape(1, 4, 6, 2, 3)

    packed, unpacked = (keras.ops.convert_to_numpy(part) for part in model(voxels))

    assert packed.shape == (1, 2, 3, 1, 24)
    # The block at the corner, voxel by voxel, its channels together.
    np.testing.assert_array_equal(packed[0, 1, 2, 0], voxels[0, 2:4, 4:6, 0:2].ravel())
    np.testing.assert_array_equal(unpacked, voxels)


def test_the_default_network_has_the_size_that_its_layers_add_up_to():
    model = build_volume_unet(grid=(16, 32, 48))
    widths = (32, 64, 128, 192)
    # Stem and units: 27 weights a pair of channels, scale and offset of the normalisation.
    units = [(8, 32), (32, 32)] + [(w, w) for w in widths[1:] for _ in range(2)]
    units += [(w, w) for w in widths[:3] for _ in range(2)]
    expected = sum(27 * a * b + 2 * b for a, b in units)
    expected += sum(8 * a * b + b for a, b in pairwise(widths))
    expected += sum(a * b + a for a, b in pairwise(widths))
    expected += 32 * 72 + 72

    assert model.count_params() == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": (8, 12, 6)}, "grid: expected three multiples of 4"),
        ({"grid": (8, 12)}, "grid: expected three multiples of 4"),
        ({"grid": (0, 4, 4)}, "grid: expected three multiples of 4"),
        ({"filters": (8, 12)}, "filters: expected multiples of 8"),
        ({"filters": ()}, "grid: expected"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build_volume_unet(**{"grid": (8, 12, 4), "filters": (8, 16), **options})
