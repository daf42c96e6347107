"""PNG as bytes: our decoder compared with another, and given files of other encoders."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from isal import isal_zlib

from heartseg.slices.png import decode_row_differences, encode_png, sum_rows

LEVELS = st.sampled_from([0, 1, 2, 254, 255])
PICTURES = st.one_of(
    arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=40), elements=LEVELS),
    array_shapes(min_dims=2, max_dims=2, max_side=20).flatmap(
        lambda shape: arrays(np.uint8, (*shape, 3), elements=LEVELS)
    ),
)
PICTURE = np.repeat(np.random.default_rng(3).integers(0, 256, (5, 4), np.uint8), 3, axis=0)


@given(PICTURES)
def test_a_picture_is_decoded_as_it_was_encoded(picture):
    content = encode_png(picture)
    ours = sum_rows(decode_row_differences(content, picture.ndim)).reshape(picture.shape)
    np.testing.assert_array_equal(ours, picture)
    other = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(ours, other if picture.ndim == 2 else other[..., ::-1])


def test_grey_and_colour_pictures_are_not_mixed_up():
    assert decode_row_differences(encode_png(PICTURE), 3) is None
    assert decode_row_differences(encode_png(np.dstack([PICTURE] * 3)), 2) is None


def test_a_picture_of_another_encoder_is_left_to_opencv():
    assert decode_row_differences(cv2.imencode(".png", PICTURE)[1].tobytes(), 2) is None
    assert decode_row_differences(cv2.imencode(".jpg", PICTURE)[1].tobytes(), 2) is None
    assert decode_row_differences(b"", 2) is None


def test_a_lost_or_changed_byte_never_gives_another_picture():
    content = encode_png(PICTURE)
    for place in range(len(content)):
        assert decode_row_differences(content[:place], 2) is None
        assert decode_row_differences(content[:place] + content[place + 1 :], 2) is None
        changed = decode_row_differences(
            content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :], 2
        )
        if changed is not None:
            np.testing.assert_array_equal(sum_rows(changed), PICTURE)


@pytest.mark.parametrize("lines", [14, 16, 100000])
def test_a_wrong_number_of_rows_is_refused(lines):
    content = encode_png(PICTURE)
    packed = isal_zlib.compress(bytes([2, 0, 0, 0, 0]) * lines, 1)
    start = content[:33] + len(packed).to_bytes(4, "big") + b"IDAT"
    assert decode_row_differences(start + packed + bytes(4) + content[-12:], 2) is None


def test_rows_with_another_filter_are_left_to_opencv():
    content = encode_png(PICTURE)
    packed = isal_zlib.compress(bytes([1, 5, 0, 0, 0]) * len(PICTURE), 1)
    start = content[:33] + len(packed).to_bytes(4, "big") + b"IDAT"
    assert decode_row_differences(start + packed + bytes(4) + content[-12:], 2) is None
