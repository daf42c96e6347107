import base64

import cv2
import numpy as np

from heartseg.labels import HVSMR
from heartseg.pictures.case_pictures import PICTURE_HEIGHT, draw_case, orient_case

# Array axes run posterior, inferior, right, as in the data set.
PIR = np.array([[0, 0, 2.0, 0], [-1.0, 0, 0, 0], [0, -0.5, 0, 0], [0, 0, 0, 1]])


def decode(picture):
    content = base64.b64decode(picture.data_url.removeprefix("data:image/png;base64,"))
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def marked():
    """Return a label map with the LV in the anterior superior left corner."""
    labels = np.zeros((8, 12, 6), np.uint8)
    labels[0, 0, 0] = 1
    return labels


def test_axes_are_turned_toward_right_anterior_superior():
    view = orient_case("pat1", None, marked(), affine=PIR)

    assert view.reference.shape == (6, 8, 12)
    assert view.spacing_mm == (2.0, 1.0, 0.5)
    # Left, anterior and superior.
    np.testing.assert_array_equal(np.argwhere(view.reference), [[0, 7, 11]])
    assert not view.prediction.any()


def test_pictures_follow_the_radiological_convention():
    view = orient_case("pat1", np.zeros_like(marked()), marked(), affine=PIR)

    sagittal, coronal, axial = (decode(picture) for picture in draw_case(view, HVSMR))

    # Sagittal 8 mm wide and 6 mm high: anterior right, superior up.
    width = round(PICTURE_HEIGHT * 8 / 6)
    assert sagittal.shape == (PICTURE_HEIGHT, 2 * width + 6, 3)
    assert tuple(sagittal[2, width - 3]) == (180, 60, 60)
    assert tuple(sagittal[2, 3]) == (0, 0, 0)
    # Coronal and axial: the patient's left on the right.
    for picture in (coronal, axial):
        width = (picture.shape[1] - 6) // 2
        assert tuple(picture[2, width - 3]) == (180, 60, 60)
        assert not picture[:, width + 6 :].any()


def test_labels_are_drawn_over_the_image():
    image = np.full((8, 12, 6), 0.5)
    view = orient_case("pat1", marked(), marked(), affine=PIR, image=image)

    picture = decode(draw_case(view, HVSMR)[0])

    assert tuple(picture[-2, 2]) == (128, 128, 128)
    width = (picture.shape[1] - 6) // 2
    red, green, blue = (int(value) for value in picture[2, width - 3])
    assert red == 154
    assert green == blue == 94
    # The title holds the plane and the index of the slice.
    assert draw_case(view, HVSMR)[0].title == "sagittal 0"
