import re

import cv2
import keras
import pytest

from heartseg.networks.unet import build_unet
from heartseg.pictures.network_diagram import draw_architecture


def texts_of(model, folder):
    """Draw a model and return the texts of the drawing in order."""
    draw_architecture(model, folder / "model.svg")
    # Matplotlib draws letters as outlines and adds the text of each line as a comment.
    return re.findall(r"<!-- (.*?) -->", (folder / "model.svg").read_text())


def test_each_block_shows_its_filters_kernel_and_size(tmp_path):
    model = build_unet(
        image_size=(16, 8), image_channels=1, num_classes=4, base_filters=2, num_layers=3
    )

    texts = texts_of(model, tmp_path)

    # Filters double and sides halve per level; kernels shrink from 7 x 7 by 2.
    blocks = [
        ["2 filters", "7x7", "16 x 8"],
        ["4 filters", "5x5", "8 x 4"],
        ["8 filters", "3x3", "4 x 2"],
        ["4 filters", "5x5", "8 x 4"],
        ["2 filters", "7x7", "16 x 8"],
    ]
    start = texts.index("2 filters")
    drawn = [texts[i : i + 3] for i in range(start, start + 15, 3)]
    assert [[filters, kernel.split(",")[0], size] for filters, kernel, size in drawn] == blocks
    assert texts.count("concatenate") == 1
    assert "image, 1 channel" in texts
    assert "softmax, 4 classes" in texts
    assert any(f"{model.count_params():,} parameters" in text for text in texts)


def test_blocks_with_dropout_are_marked(tmp_path):
    options = {"image_size": (16, 8), "base_filters": 2, "num_layers": 2}

    with_dropout = texts_of(build_unet(**options, dropout_rate=0.1), tmp_path)
    without = texts_of(build_unet(**options, dropout_rate=0.0), tmp_path)

    assert any(text.endswith(", dropout") for text in with_dropout)
    assert not any("dropout" in text for text in without)


def test_a_model_for_any_size_is_drawn_with_letters_for_its_sides(tmp_path):
    model = build_unet(image_size=(None, None), base_filters=2, num_layers=3)

    assert texts_of(model, tmp_path).count("H x W") == 5
    draw_architecture(model, tmp_path / "model.png")
    picture = cv2.imread(str(tmp_path / "model.png"))
    assert min(picture.shape[:2]) > 300
    assert picture.std() > 10


def test_a_diagram_of_another_network_is_refused(tmp_path):
    images = keras.Input((8, 8, 3))
    other = keras.Model(images, keras.layers.Conv2D(2, 1)(images))
    with pytest.raises(ValueError, match="expected blocks with the names of build_unet"):
        draw_architecture(other, tmp_path / "model.png")
