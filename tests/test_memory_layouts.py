"""Scans, slices, labels and pictures: results do not depend on how arrays lie in memory.

``test_memory_order.py`` does the same for surfaces, scores and inference.
"""

import cv2
import nibabel
import numpy as np
import pytest
from builders import make_affine, make_scan
from layouts import LAYOUTS, Call, check_layout, lay_out

from heartseg.hashing import hash_labels
from heartseg.labels import HVSMR
from heartseg.pages.page_writer import render_scan_page
from heartseg.pages.scan_page import ScanPage
from heartseg.pictures.annotations import annotate
from heartseg.pictures.case_pictures import draw_case, orient_case
from heartseg.pictures.framing import find_heart, frame_box, see_image, see_labels
from heartseg.pictures.movie import movie_frames, write_movie
from heartseg.pictures.overlays import overlay, overlay_slices
from heartseg.pictures.previews import preview_sheet, to_true_aspect
from heartseg.pictures.sheets import contact_sheet
from heartseg.scans.axes import from_trained_axes, to_trained_axes
from heartseg.scans.fingerprint import fingerprint_labels, fingerprint_scan
from heartseg.scans.geometry import SliceGrid, SliceLayout
from heartseg.scans.intensity import apply_window, find_window, normalize, to_gray
from heartseg.scans.nearest import resample_labels, resize_labels
from heartseg.scans.oblique import straighten
from heartseg.scans.resampling import resample, resample_to, sampling_matrix
from heartseg.scans.volume import Volume, write_image, write_label_map
from heartseg.slices.augment import Augmentation, augment_slice
from heartseg.slices.png import encode_png, sum_rows
from heartseg.slices.recipe import PreparedVolume, SliceRecipe, prepare_slice, to_network_input
from heartseg.slices.store import write_color, write_gray, write_mask

SCAN = make_scan((14, 12, 10))
AFFINE = SCAN.affine
OTHER_AFFINE = make_affine("LPS", (1.0, 1.2, 0.9), (-18.0, 30.0, 12.0))
IMAGE, LABELS = SCAN.image.astype(np.float32), SCAN.labels.astype(np.uint8)
FRAME = frame_box(find_heart(LABELS, AFFINE), step_mm=1.0)
SLICE, MASK = IMAGE[..., 5], LABELS[..., 5]
GRAY = np.uint8(255 * np.clip(SLICE, 0, 1))
COLOR = HVSMR.colorize(MASK)
PROBABILITIES = np.random.default_rng(0).dirichlet(np.ones(3), (24, 20)).astype(np.float32)
STRETCHED = SliceGrid((14, 12), (24, 20), (24, 20))
PADDED = SliceGrid((14, 12), (20, 30), (24, 20), averages=True)
UNCHANGED = SliceGrid((14, 12), (14, 12), (14, 12))
MATRICES = [sampling_matrix(out, side, zoom=0.9) for out, side in ((7, 14), (15, 12), (10, 10))]
AUGMENTATION = Augmentation(
    flip_horizontal=True,
    flip_vertical=True,
    rotation_degrees=20,
    elastic_alpha=2,
    blur_sigma=1,
    contrast=0.2,
    brightness=0.1,
    gamma=0.2,
    noise=0.1,
)


def volume_of(voxels):
    return Volume(voxels, AFFINE, nibabel.Nifti1Header())


def augment(image, labels):
    return augment_slice(image, labels, AUGMENTATION, np.random.default_rng(5))


CALLS = {
    "SliceLayout.stack": Call(
        lambda voxels: SliceLayout.from_affine(AFFINE, "coronal").stack(voxels), (IMAGE,)
    ),
    "image_to_network": Call(STRETCHED.image_to_network, (SLICE,)),
    "image_to_network padded": Call(PADDED.image_to_network, (SLICE,)),
    "image_to_network unchanged": Call(UNCHANGED.image_to_network, (SLICE,)),
    "labels_to_network": Call(PADDED.labels_to_network, (MASK,)),
    "labels_to_native": Call(
        lambda labels: PADDED.labels_to_native(labels.repeat(2, 0)[:24].repeat(2, 1)[:, :20]),
        (MASK,),
    ),
    "probabilities_to_native": Call(PADDED.probabilities_to_native, (PROBABILITIES,)),
    "probabilities_to_native stretched": Call(STRETCHED.probabilities_to_native, (PROBABILITIES,)),
    "find_window": Call(lambda voxels: find_window(voxels, "percentile", (1, 99)), (IMAGE,)),
    "apply_window": Call(lambda voxels: apply_window(voxels, (0.2, 0.8)), (IMAGE,)),
    "to_gray": Call(to_gray, (IMAGE,)),
    "normalize": Call(lambda image: normalize(image, 1.3), (IMAGE,)),
    "resample": Call(lambda voxels: resample(voxels, MATRICES), (IMAGE,)),
    "resample of channels": Call(
        lambda voxels: resample(voxels, MATRICES), (np.stack([IMAGE, 1 - IMAGE], axis=-1),)
    ),
    "resample_to": Call(lambda voxels: resample_to(voxels, (9, 20, 10)), (IMAGE,)),
    "resize_labels": Call(lambda labels: resize_labels(labels, (9, 12, 23)), (LABELS,)),
    "resample_labels": Call(
        lambda labels: resample_labels(labels, AFFINE, to_affine=OTHER_AFFINE, shape=(9, 8, 11)),
        (LABELS,),
    ),
    "straighten": Call(lambda voxels: straighten(volume_of(voxels), 20).voxels, (IMAGE,)),
    "to_trained_axes": Call(lambda voxels: to_trained_axes(voxels, OTHER_AFFINE), (IMAGE,)),
    "from_trained_axes": Call(lambda voxels: from_trained_axes(voxels, OTHER_AFFINE), (LABELS,)),
    "hash_labels": Call(lambda labels: hash_labels(labels, (1, 2, 3)), (LABELS,)),
    "fingerprint_labels": Call(lambda labels: fingerprint_labels(volume_of(labels)), (LABELS,)),
    "fingerprint_scan": Call(lambda voxels: fingerprint_scan(volume_of(voxels)), (IMAGE,)),
    "colorize": Call(HVSMR.colorize, (LABELS,)),
    "decode": Call(HVSMR.decode, (COLOR,)),
    "check_values": Call(HVSMR.check_values, (LABELS,)),
    "prepare_slice": Call(lambda image: prepare_slice(image, PADDED, (0.1, 0.9)), (SLICE,)),
    "PreparedVolume": Call(
        lambda voxels: np.stack(
            list(PreparedVolume(volume_of(voxels), SliceRecipe(image_height=20, image_width=16)))
        ),
        (IMAGE,),
    ),
    "to_network_input": Call(
        lambda slices: to_network_input(slices, 3), (np.stack([GRAY, 255 - GRAY]),)
    ),
    "augment_slice": Call(lambda *pair: np.dstack(augment(*pair)), (SLICE, MASK)),
    "encode_png": Call(encode_png, (GRAY,)),
    "encode_png in colour": Call(encode_png, (COLOR,)),
    "sum_rows": Call(sum_rows, (GRAY,)),
    "overlay": Call(lambda image, labels: overlay(image, labels, HVSMR), (GRAY, MASK)),
    "overlay_slices": Call(
        lambda voxels, labels: np.stack(
            list(overlay_slices(volume_of(voxels), labels, HVSMR, plane="axial", limits=(0, 1)))
        ),
        (IMAGE, LABELS),
    ),
    "to_true_aspect": Call(
        lambda picture: to_true_aspect(picture, (1.0, 1.7), longest_side=40), (COLOR,)
    ),
    "preview_sheet": Call(
        lambda voxels, labels: preview_sheet(
            volume_of(voxels), labels, HVSMR, plane="coronal", limits=(0, 1)
        ),
        (IMAGE, LABELS),
    ),
    "display": Call(HVSMR.display, (LABELS,)),
    "find_heart": Call(lambda labels: find_heart(labels, AFFINE).center_mm, (LABELS,)),
    "see_image": Call(lambda voxels: see_image(voxels, AFFINE, FRAME, outside=0), (IMAGE,)),
    "see_labels": Call(lambda labels: see_labels(labels, AFFINE, FRAME), (LABELS,)),
    "annotate": Call(
        lambda picture: annotate(picture, marks=("A", "P", "R", "L"), step_mm=1), (COLOR,)
    ),
    "movie_frames": Call(
        lambda voxels, labels: np.stack(
            list(
                movie_frames(
                    volume_of(voxels),
                    labels,
                    HVSMR,
                    plane="axial",
                    limits=(0, 1),
                    longest_side=60,
                )
            )
        ),
        (IMAGE, LABELS),
    ),
    "render_scan_page": Call(
        lambda image, labels: [
            render_scan_page(ScanPage("a", image, labels, AFFINE, HVSMR, (0.0, 1.0)))
        ],
        (IMAGE, LABELS),
    ),
    "contact_sheet": Call(
        lambda gray, color: contact_sheet([gray, color], columns=2, tile=30), (GRAY, COLOR)
    ),
    "draw_case": Call(
        lambda prediction, reference, image: [
            picture.data_url
            for picture in draw_case(
                orient_case("a", prediction, reference, affine=AFFINE, image=image), HVSMR
            )
        ],
        (LABELS, LABELS[::-1].copy(), IMAGE),
    ),
}

WRITERS = {
    "a.nii": Call(lambda file, voxels: write_image(file, voxels, affine=AFFINE), (IMAGE,)),
    "b.nii.gz": Call(
        lambda file, labels: write_label_map(file, labels, like=volume_of(IMAGE), table=HVSMR),
        (LABELS,),
    ),
    "gray.png": Call(write_gray, (GRAY,)),
    "gray.bmp": Call(write_gray, (GRAY,)),
    "gray.tif": Call(write_gray, (GRAY,)),
    "color.png": Call(write_color, (COLOR,)),
    "color.jpg": Call(write_color, (COLOR,)),
    "mask.png": Call(lambda file, labels: write_mask(file, labels, HVSMR), (MASK,)),
    "movie.gif": Call(lambda file, frame: write_movie(file, [frame, frame]), (COLOR,)),
}


with_each_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)


@with_each_layout
@pytest.mark.parametrize("name", CALLS)
def test_the_result_does_not_depend_on_the_layout(name, layout):
    check_layout(CALLS[name], layout)


@with_each_layout
@pytest.mark.parametrize("name", WRITERS)
def test_the_file_does_not_depend_on_the_layout(name, layout, tmp_path):
    write, arrays = WRITERS[name].function, WRITERS[name].arrays
    write(tmp_path / name, *(np.array(array, order="C") for array in arrays))
    (tmp_path / "other").mkdir()

    write(tmp_path / "other" / name, *lay_out(arrays, layout))

    assert (tmp_path / "other" / name).read_bytes() == (tmp_path / name).read_bytes()


@with_each_layout
def test_the_frames_of_an_mp4_do_not_depend_on_the_layout(layout, tmp_path):
    frame = np.repeat(np.repeat(COLOR, 4, axis=0), 4, axis=1)
    shown = []
    for name, array in (("a.mp4", frame), ("b.mp4", lay_out([frame], layout)[0])):
        write_movie(tmp_path / name, [array] * 3)
        movie = cv2.VideoCapture(str(tmp_path / name))
        shown.append(movie.read()[1])
        movie.release()
    np.testing.assert_array_equal(*shown)
