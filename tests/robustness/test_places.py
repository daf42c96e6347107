"""Positions in the patient are kept by every command, whatever the geometry of the scan."""

import csv
import re
from base64 import b64decode
from dataclasses import asdict, replace
from functools import partial

import cv2
import keras
import nibabel
import numpy as np
import pytest
from builders import make_affine, make_config, make_scan, rotate, write_nifti
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from heartseg.cohort.cases import CaseFiles
from heartseg.labels import HVSMR
from heartseg.modelfile.checkpoint import save_model
from heartseg.pipelines.infer import run_infer
from heartseg.pipelines.prepare import prepare_case
from heartseg.pipelines.score_label_maps import run_scoring
from heartseg.scans.geometry import Plane, SliceLayout
from heartseg.scans.volume import spacing_of
from heartseg.slices.manifest import read_manifest, write_manifest
from heartseg.slices.recipe import SliceRecipe
from heartseg.slices.store import read_color

RIGHT_TO = {"R": "RL", "A": "AP", "S": "SI"}
ORIENTATIONS = [
    "".join(sides)
    for order in ("RAS", "RSA", "ARS", "ASR", "SRA", "SAR")
    for sides in np.stack(
        np.meshgrid(*[list(RIGHT_TO[axis]) for axis in order]), axis=-1
    ).reshape(-1, 3)
]  # fmt: skip
LANDMARK = 5

repeatable = partial(settings, deadline=None, derandomize=True, database=None)
affines = st.builds(
    lambda axes, spacing, degrees, origin: rotate(make_affine(axes, spacing, origin), degrees),
    st.sampled_from(ORIENTATIONS),
    st.tuples(*[st.floats(0.3, 3)] * 3),
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.tuples(*[st.floats(-300, 300)] * 3),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("places")


@repeatable(max_examples=20)
@given(
    affine=affines,
    # Slices as large as those of the data set, and a network as small as is useful for them.
    shape=st.tuples(*[st.integers(128, 330)] * 2),
    side=st.integers(192, 512),
    coarseness=st.one_of(st.none(), st.floats(0.7, 1.25)),
    plane=st.sampled_from(list(Plane)),
    seed=st.integers(0, 99),
)
def test_99_percent_of_a_smooth_label_map_survive_the_networks_grid(
    affine, shape, side, coarseness, plane, seed
):
    layout = SliceLayout.from_affine(affine, plane)
    sizes = [0, 0, 0]
    sizes[layout.slice_axis], sizes[layout.row_axis], sizes[layout.col_axis] = 3, *shape
    labels = make_scan(tuple(sizes), seed=seed, num_classes=4).labels.astype(np.uint8)
    spacing = layout.spacing_mm(affine)
    recipe = SliceRecipe(image_height=side, image_width=side)
    grid = recipe.grid(shape, spacing)
    if coarseness is not None:
        recipe = replace(recipe, fit="pad", spacing_mm=coarseness * min(spacing))
        grid = recipe.grid(shape, spacing)
        # Large enough for the whole slice, because a cropped border would be lost.
        grid = replace(grid, network_shape=tuple(max(side, size) for size in grid.resized_shape))

    rebuilt = np.full_like(labels, 255)
    for source, target in zip(layout.stack(labels), layout.stack(rebuilt), strict=True):
        target[:] = grid.labels_to_native(grid.labels_to_network(source))

    assert (rebuilt == labels).mean() >= 0.99


def make_landmark(affine, shape, place):
    """Return labels with a cube of three voxels, and the position of its centre in mm."""
    index = np.array(
        [1 + round(fraction * (size - 3)) for fraction, size in zip(place, shape, strict=True)]
    )
    labels = np.zeros(shape, np.int16)
    labels[tuple(slice(i - 1, i + 2) for i in index)] = LANDMARK
    return labels, nibabel.affines.apply_affine(affine, index)


landmarks = {
    "affine": affines,
    "shape": st.tuples(*[st.integers(9, 40)] * 3),
    "place": st.tuples(*[st.floats(0, 1)] * 3),
}
cuts = {"plane": st.sampled_from(list(Plane)), "fit": st.sampled_from(["stretch", "pad"])}


def write_scan(folder, labels, affine, name="pat1"):
    for suffix, voxels in (("norm", (labels / 8).astype(np.float32)), ("seg", labels)):
        write_nifti(folder / f"{name}_cropped_{suffix}.nii", voxels, affine)
    return [folder / f"{name}_cropped_{suffix}.nii" for suffix in ("norm", "seg")]


@repeatable(max_examples=20)
@given(
    **landmarks,
    **cuts,
)
def test_a_landmark_is_found_again_from_the_slices_on_disk(
    folder, affine, shape, place, plane, fit
):
    labels, world = make_landmark(affine, shape, place)
    case = CaseFiles("pat1", *write_scan(folder, labels, affine))
    source = nibabel.load(case.image_file)
    finest = source.header.get_zooms()
    recipe = SliceRecipe(
        plane=plane.value,
        fit=fit,
        image_height=160,
        image_width=128,
        # Then no side is longer than 128 pixels, and no voxel is shorter than half a pixel.
        spacing_mm=max(size * step for size, step in zip(shape, finest, strict=True)) / 128,
    )
    done = prepare_case(case, master_dir=folder, recipe=recipe, table=HVSMR, keep_empty=False)
    write_manifest(folder / "manifest.csv", done.records)

    places = [
        (row.slice, *center(read_color(folder / "masks" / row.file), recipe, row))
        for row in read_manifest(folder / "manifest.csv")
        if row.foreground
    ]
    found = to_world(source, plane, np.mean(places, axis=0))
    # One voxel, or the pixel that it became if that is larger.
    assert np.linalg.norm(found - world) <= max(*finest, recipe.spacing_mm)


def center(mask, recipe, row):
    """Return the centre of the labelled pixels of a mask, in rows and columns of the scan."""
    pixels = np.argwhere(mask.any(axis=-1)).mean(axis=0)
    native = np.array([row.height, row.width])
    network = np.array([recipe.image_height, recipe.image_width])
    if recipe.fit == "stretch":
        return (pixels + 0.5) * native / network - 0.5
    spacing = np.array([row.spacing_row_mm, row.spacing_col_mm])
    resized = np.maximum(1, np.round(native * spacing / recipe.spacing_mm))
    return (pixels - (network - resized) // 2 + 0.5) * native / resized - 0.5


def to_world(source, plane, place):
    """Return the position in mm of a pixel of a slice, by nibabel's reorientation alone."""
    turned = nibabel.as_closest_canonical(source)
    index, row, col = place
    stack = {Plane.SAGITTAL: 0, Plane.CORONAL: 1, Plane.AXIAL: 2}[plane]
    turns = io_orientation(source.affine)
    axis = list(turns[:, 0]).index(stack)
    right, anterior, superior = (size - 1 for size in turned.shape)
    index = index if turns[axis, 1] > 0 else source.shape[axis] - 1 - index
    voxel = {
        Plane.SAGITTAL: (index, col, superior - row),
        Plane.CORONAL: (right - col, index, superior - row),
        Plane.AXIAL: (right - col, anterior - row, index),
    }[plane]
    return nibabel.affines.apply_affine(turned.affine, voxel)


def write_model(run_dir, recipe):
    """Write a network that labels pixels at least half as bright as the landmark."""
    weights, biases = np.zeros((1, 1, 1, 9)), np.full(9, -100.0)
    weights[..., LANDMARK], biases[[0, LANDMARK]] = 100, (0, -100 * LANDMARK / 8 / 2)
    image = keras.Input((recipe.image_height, recipe.image_width, 1))
    layer = keras.layers.Conv2D(9, 1, activation="softmax")
    model = keras.Model(image, layer(image))
    layer.set_weights([weights, biases])
    metadata = {"recipe": recipe.to_dict(), "labels": [asdict(s) for s in HVSMR.structures]}
    save_model(model, run_dir / "best.keras", metadata)


@repeatable(max_examples=10)
@given(
    **landmarks,
    **cuts,
)
def test_a_landmark_lies_in_the_label_map_of_infer_where_it_lies_in_the_scan(
    folder, affine, shape, place, plane, fit
):
    labels, world = make_landmark(affine, shape, place)
    scan, _ = write_scan(folder / "scans", labels, affine)
    recipe = SliceRecipe(
        plane=plane.value,
        fit=fit,
        image_height=160,
        image_width=128,
        image_channels=1,
        spacing_mm=max(np.array(shape) * spacing_of(affine)) / 128,
    )
    write_model(folder / "run", recipe)
    result = run_infer(make_config(folder), [scan], output_dir=folder / "out", overwrite=True)

    answer = nibabel.load(folder / "out/pat1_seg.nii.gz")
    assert answer.shape == shape
    np.testing.assert_allclose(answer.affine, affine, atol=1e-4)
    found = np.argwhere(np.asarray(answer.dataobj) == LANDMARK)
    center_mm = nibabel.affines.apply_affine(answer.affine, found.mean(axis=0))
    # Half a voxel, or half of the pixel that it became if that is larger.
    assert np.linalg.norm(center_mm - world) <= max(*spacing_of(affine), recipe.spacing_mm) / 2
    row = next(row for row in result.volumes if row.structure == "AO")
    voxel_ml = abs(np.linalg.det(affine[:3, :3])) / 1000
    # Reported to a tenth of a cubic millimetre.
    assert row.volume_ml == pytest.approx(len(found) * voxel_ml, abs=5.1e-5)


@repeatable(max_examples=10)
@given(**landmarks, axes=st.sampled_from(ORIENTATIONS), along=st.integers(0, 2))
def test_scores_and_report_do_not_depend_on_how_a_label_map_is_stored(
    folder, affine, shape, place, axes, along
):
    reference, world = make_landmark(affine, shape, place)
    # Moved by two voxels, toward the inside of the scan, by its affine alone.
    step = 2 * affine[:3, along] * (1 if place[along] < 0.5 else -1)
    moved = affine.copy()
    moved[:3, 3] += step
    for kind, true_affine in (("same", affine), ("moved", moved)):
        stored = nibabel.Nifti1Image(reference, true_affine)
        turn = ornt_transform(io_orientation(affine), axcodes2ornt(tuple(axes)))
        (folder / kind).mkdir(exist_ok=True)
        nibabel.save(stored.as_reoriented(turn), folder / kind / "pat1.nii.gz")
    write_nifti(folder / "true/pat1.nii.gz", reference, affine)

    same, other = (score(folder, folder / kind, folder / "true") for kind in ("same", "moved"))
    assert [float(same[name]) for name in ("dice", "hd95_mm", "assd_mm")] == [1, 0, 0]
    # A cube of three voxels that is moved by two along its side keeps a third in common.
    assert float(other["dice"]) == pytest.approx(1 / 3)
    # The outer face is moved by this distance, and the surface beside it by half of it. Which of
    # them the 95th percentile is depends on the shape of a voxel.
    assert 0.499 < float(other["hd95_mm"]) / np.linalg.norm(step) < 1.001

    pictures = read_pictures(folder / "moved/evaluation/report.html")
    true_map = nibabel.load(folder / "true/pat1.nii.gz")
    for side, shift in (("reference", 0), ("prediction", step)):
        find_in_pictures(pictures, side, true_map, world + shift)


def score(folder, predictions_dir, references_dir):
    """Return the scores of the landmark."""
    result = run_scoring(
        make_config(folder, {"evaluate": {"num_bootstrap": 20}}),
        predictions_dir,
        references_dir,
        resample=True,
        overwrite=True,
    )
    with (result.output_dir / "cases.csv").open(newline="") as stream:
        (row,) = (row for row in csv.DictReader(stream) if row["structure"] == "AO")
    return row


def read_pictures(report_file):
    """Return the slice and the picture of each plane, as the report shows them."""
    found = re.findall(
        r'src="data:image/png;base64,([^"]+)" alt="pat1, (\w+) (\d+)"', report_file.read_text()
    )
    return {
        plane: (int(index), cv2.imdecode(np.frombuffer(b64decode(code), np.uint8), 1))
        for code, plane, index in found
    }


def find_in_pictures(pictures, side, label_map, world):
    """Compare the landmark in a report with its position, by nibabel alone."""
    turned = nibabel.as_closest_canonical(label_map)
    voxel = nibabel.affines.apply_affine(np.linalg.inv(turned.affine), world)
    for axis, plane in enumerate(("sagittal", "coronal", "axial")):
        index, picture = pictures[plane]
        assert abs(index - voxel[axis]) < 3.5
        width = (picture.shape[1] - 6) // 2
        panel = picture[:, :width] if side == "reference" else picture[:, -width:]
        pixels = np.argwhere(panel.any(axis=-1))
        if abs(index - voxel[axis]) > 1.5:
            assert not len(pixels)
            continue
        across, up = (other for other in range(3) if other != axis)
        down, right = (pixels.mean(axis=0) + 0.5) / panel.shape[:2]
        # Coronal and axial slices have the patient's right on the left.
        right = right if axis == 0 else 1 - right
        expected = [(voxel[a] + 0.5) / turned.shape[a] for a in (across, up)]
        pixel = [1 / size for size in panel.shape[1::-1]]
        np.testing.assert_array_less(
            np.abs(np.array([right, 1 - down]) - expected), np.array(pixel)
        )
