"""Places in the patient survive every way through the program, whatever the scan's geometry."""

import csv
from dataclasses import replace
from functools import partial

import nibabel
import numpy as np
import pytest
from builders import make_affine, make_config, make_scan, rotate, write_nifti
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from heartseg.data.cases import CaseFiles
from heartseg.data.geometry import Plane, SliceLayout
from heartseg.data.slicing import SliceRecipe
from heartseg.data.store import read_color, read_manifest, write_manifest
from heartseg.inference.predict import ModelDescription
from heartseg.inference.segmenter import Segmenter
from heartseg.labels import HVSMR
from heartseg.pipelines import infer
from heartseg.pipelines.evaluate import run_scoring
from heartseg.pipelines.prepare import prepare_case

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
    # As large as the slices of the data set are; the network is as small as makes sense for them.
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
        # Room for the whole slice: what is cropped away does not come back.
        grid = replace(grid, network_shape=tuple(max(side, size) for size in grid.resized_shape))

    rebuilt = np.full_like(labels, 255)
    for source, target in zip(layout.stack(labels), layout.stack(rebuilt), strict=True):
        target[:] = grid.labels_to_native(grid.labels_to_network(source))

    assert (rebuilt == labels).mean() >= 0.99


def make_landmark(affine, shape, place):
    """Return a scan that is dark but for a cube of three voxels, and where its centre lies."""
    index = np.array(
        [1 + round(share * (size - 3)) for share, size in zip(place, shape, strict=True)]
    )
    labels = np.zeros(shape, np.int16)
    labels[tuple(slice(i - 1, i + 2) for i in index)] = LANDMARK
    return labels, nibabel.affines.apply_affine(affine, index)


landmarks = {
    "affine": affines,
    "shape": st.tuples(*[st.integers(9, 40)] * 3),
    "place": st.tuples(*[st.floats(0, 1)] * 3),
}


def write_scan(folder, labels, affine, name="pat1"):
    for suffix, voxels in (("norm", (labels / 8).astype(np.float32)), ("seg", labels)):
        write_nifti(folder / f"{name}_cropped_{suffix}.nii", voxels, affine)
    return [folder / f"{name}_cropped_{suffix}.nii" for suffix in ("norm", "seg")]


@repeatable(max_examples=20)
@given(
    **landmarks,
    plane=st.sampled_from(list(Plane)),
    fit=st.sampled_from(["stretch", "pad"]),
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
        # No side is longer than 128 pixels then, and no voxel shorter than half of one.
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
    # A voxel, or the pixel it became where that is larger.
    assert np.linalg.norm(found - world) <= max(*finest, recipe.spacing_mm)


def center(mask, recipe, row):
    """Return where the labelled pixels of a mask lie, in rows and columns of the scan's slice."""
    pixels = np.argwhere(mask.any(axis=-1)).mean(axis=0)
    native = np.array([row.height, row.width])
    network = np.array([recipe.image_height, recipe.image_width])
    if recipe.fit == "stretch":
        return (pixels + 0.5) * native / network - 0.5
    spacing = np.array([row.spacing_row_mm, row.spacing_col_mm])
    resized = np.maximum(1, np.round(native * spacing / recipe.spacing_mm))
    return (pixels - (network - resized) // 2 + 0.5) * native / resized - 0.5


def to_world(source, plane, place):
    """Return the point of a slice's pixel by nibabel's reorientation alone."""
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


def answer_by_intensity(images):
    """Stand in for a network: the class whose grey level is nearest."""
    nearest = np.rint(8 * images[..., 0]).astype(int)
    return np.eye(9, dtype=np.float32)[nearest]


@repeatable(max_examples=10)
@given(**landmarks, plane=st.sampled_from(list(Plane)))
def test_a_landmark_lies_in_the_label_map_of_infer_where_it_lies_in_the_scan(
    folder, affine, shape, place, plane
):
    labels, world = make_landmark(affine, shape, place)
    scan, _ = write_scan(folder / "scans", labels, affine)
    recipe = SliceRecipe(plane=plane.value, image_height=160, image_width=128, image_channels=1)
    segmenter = Segmenter(answer_by_intensity, ModelDescription(recipe, HVSMR))
    (folder / "run").mkdir(exist_ok=True)
    (folder / "run/best.keras").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(infer, "_load_segmenter", lambda *_: segmenter)
        result = infer.run_infer(
            make_config(folder), [scan], output_dir=folder / "out", overwrite=True
        )

    answer = nibabel.load(folder / "out/pat1_seg.nii.gz")
    found = np.argwhere(np.asarray(answer.dataobj) == LANDMARK).mean(axis=0)
    step = max(answer.header.get_zooms())
    assert np.linalg.norm(nibabel.affines.apply_affine(answer.affine, found) - world) <= step / 2
    # 27 voxels, seen through an interpolation that may take or give a layer.
    row = next(row for row in result.volumes if row.structure == "AO")
    assert row.volume_ml == pytest.approx(row.voxels * abs(np.linalg.det(affine)) / 1000, rel=1e-4)


@pytest.mark.parametrize("axes", ["LPS", "ASR", "IRP"])
def test_scores_depend_on_places_not_on_how_a_label_map_is_stored(tmp_path, axes):
    scan = make_scan((24, 21, 19), seed=3)
    affine = rotate(scan.affine)
    write_nifti(tmp_path / "true/a.nii.gz", scan.labels, affine)
    stored = nibabel.Nifti1Image(scan.labels, affine)
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(tuple(axes)))
    (tmp_path / "found").mkdir()
    nibabel.save(stored.as_reoriented(turn), tmp_path / "found/a.nii.gz")
    # The third array axis has the spacing 1.1 mm; the map is moved by two of its voxels.
    moved = affine.copy()
    moved[:3, 3] += 2 * affine[:3, 2]
    write_nifti(tmp_path / "moved/a.nii.gz", scan.labels, moved)

    same, other = (
        score(tmp_path, predictions, tmp_path / "true") for predictions in ("found", "moved")
    )
    assert {(row["dice"], row["hd95_mm"], row["assd_mm"]) for row in same} == {
        ("1.0", "0.0", "0.0")
    }
    whole_map = make_landmark(affine, (24, 21, 19), (0.5, 0.5, 0.5))[0]
    write_nifti(tmp_path / "true/a.nii.gz", whole_map, affine)
    write_nifti(tmp_path / "moved/a.nii.gz", whole_map, moved)
    (row,) = (r for r in score(tmp_path, "moved", tmp_path / "true") if r["structure"] == "AO")
    # A cube of three voxels that is moved by two along its side: a third is shared.
    assert float(row["dice"]) == pytest.approx(1 / 3)
    assert float(row["hd95_mm"]) == pytest.approx(2 * 1.1, rel=0.05)
    assert all(float(row["dice"]) < 1 for row in other)


def score(folder, predictions, references):
    output = folder / f"scores-{predictions}"
    run_scoring(
        make_config(folder, {"evaluate": {"num_bootstrap": 20}}),
        folder / predictions,
        references,
        output_dir=output,
        resample=True,
        overwrite=True,
    )
    with (output / "cases.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))
