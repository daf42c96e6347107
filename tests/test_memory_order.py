"""Surfaces, scores and inference: results do not depend on how arrays lie in memory.

``test_memory_layouts.py`` does the same for scans, slices, labels and pictures.
"""

from dataclasses import astuple

import nibabel
import numpy as np
import pytest
from builders import make_affine, make_scan
from layouts import LAYOUTS, Call, check_layout

import heartseg
from heartseg.evaluation.overlap import confusion_matrix, dice_per_label
from heartseg.evaluation.scoring import LabelPair, score_case
from heartseg.inference.postprocess import clean_up, keep_largest_components
from heartseg.inference.segmenter import SliceSegmenter
from heartseg.inference.slice_prediction import predict_slices, predict_volume
from heartseg.inference.volumetry import measure_volumes
from heartseg.inference.whole_heart import WholeHeartSegmenter
from heartseg.labels import HVSMR, LabelTable
from heartseg.measurements.shapes import measure_shapes
from heartseg.measurements.structures import measure_structures, touches_border
from heartseg.modelfile.description import ModelDescription
from heartseg.scans.volume import Volume
from heartseg.slices.recipe import SliceRecipe
from heartseg.surfaces.distances import corner_codes, surface_distances
from heartseg.surfaces.label_surfaces import build_surfaces, fit_heart
from heartseg.surfaces.mesh import build_mesh, coarsen
from heartseg.surfaces.wall import build_wall

SPACING_MM = (0.8, 1.5, 1.1)
AFFINE = make_affine("PIR", SPACING_MM)
OTHER_AFFINE = make_affine("LPS", (1.0, 1.2, 0.9), (-18.0, 30.0, 12.0))
SCAN = make_scan((20, 17, 13))
OTHER = make_scan((20, 17, 13), seed=1)
RECIPE = SliceRecipe(image_height=24, image_width=28, image_channels=1)
TABLE = LabelTable(HVSMR.structures[:3])


def predict_by_brightness(images):
    """Stand in for a network of two structures: grey and bright."""
    value = images[..., 0]
    scores = np.stack([0.3 - value, 0.2 - np.abs(value - 0.5), value - 0.7], axis=-1)
    return np.exp(10 * scores).astype(np.float32)


def as_logits(images):
    return np.log(predict_by_brightness(images))


def volume_of(voxels):
    return Volume(voxels, AFFINE, nibabel.Nifti1Header())


def predict_by_slices(voxels, **options):
    return predict_volume(
        predict_by_brightness, volume_of(voxels), RECIPE, num_classes=3, **options
    )


def segment_by_slices(voxels):
    model = ModelDescription(RECIPE, TABLE)
    segmenter = SliceSegmenter(predict_by_brightness, model, largest_component=True)
    return segmenter.segment(volume_of(voxels)).labels


def segment_whole(voxels):
    return (
        WholeHeartSegmenter(as_logits, ModelDescription.for_whole_heart((12, 16, 14), TABLE))
        .segment(volume_of(voxels))
        .labels
    )


def segment_from_python(voxels):
    segmenter = WholeHeartSegmenter(
        as_logits, ModelDescription.for_whole_heart((12, 16, 14), TABLE)
    )
    return heartseg.segment((voxels, AFFINE), model=segmenter).labels


def score(prediction, reference, endpoints):
    pair = LabelPair("a", prediction, reference, SPACING_MM, endpoints)
    scores = score_case(pair, HVSMR)
    values = [value for row in scores.rows for value in astuple(row)]
    numbers = np.array([value for value in values if isinstance(value, float)])
    return [numbers, [value for value in values if isinstance(value, str)], scores.confusion]


def measure_distances(prediction, reference):
    found = surface_distances(prediction, reference, spacing_mm=SPACING_MM)
    return [
        found.prediction_mm,
        found.prediction_mm2,
        found.reference_mm,
        found.reference_mm2,
        found.percentile_mm(95),
    ]


def mesh_of(mask):
    mesh = build_mesh(mask, spacing_mm=SPACING_MM)
    return [mesh.vertices_mm, mesh.triangles]


def surfaces_of(labels):
    meshes = build_surfaces(labels, AFFINE, HVSMR).values()
    return [array for mesh in meshes for array in (mesh.vertices_mm, mesh.triangles)]


def wall_of(labels, zones):
    mesh = build_wall(labels, AFFINE, HVSMR, wall_mm=1, zones=zones).mesh
    return [mesh.vertices_mm, mesh.triangles]


IMAGE, LABELS = SCAN.image.astype(np.float32), SCAN.labels.astype(np.uint8)
OTHER_LABELS = OTHER.labels.astype(np.uint8)
ZONES = np.where(np.arange(13) > 9, LABELS, 0).astype(np.uint8)
MASK, OTHER_MASK = LABELS == 3, (OTHER_LABELS == 3) | (OTHER_LABELS == 4)
PICTURE = np.uint8(255 * np.clip(SCAN.image[..., 5], 0, 1))

CALLS = {
    "surface_distances": Call(measure_distances, (MASK, OTHER_MASK)),
    "corner_codes": Call(corner_codes, (MASK,)),
    "build_mesh": Call(mesh_of, (MASK,)),
    "build_surfaces": Call(surfaces_of, (LABELS,)),
    "build_wall": Call(wall_of, (LABELS, ZONES)),
    "measure_structures": Call(
        lambda labels, image: repr(measure_structures(labels, AFFINE, HVSMR.foreground, image)),
        (LABELS, IMAGE),
    ),
    "measure_shapes": Call(
        lambda labels: repr(measure_shapes(fit_heart(labels, AFFINE, HVSMR))), (LABELS,)
    ),
    "coarsen": Call(lambda mask: coarsen(mask, (2, 3, 2)), (MASK,)),
    "score_case": Call(score, (OTHER_LABELS, LABELS, ZONES)),
    "dice_per_label": Call(lambda a, b: dice_per_label(a, b, 9), (OTHER_LABELS, LABELS)),
    "heartseg.score": Call(
        lambda *maps: repr(heartseg.score(*maps, spacing_mm=SPACING_MM).rows()[0]["dice"]),
        (OTHER_LABELS, LABELS, ZONES),
    ),
    "heartseg.segment": Call(segment_from_python, (IMAGE,)),
    "confusion_matrix": Call(lambda a, b: confusion_matrix(a, b, 9), (OTHER_LABELS, LABELS)),
    "clean_up": Call(lambda labels: clean_up(labels, HVSMR), (OTHER_LABELS,)),
    "keep_largest_components": Call(keep_largest_components, (OTHER_LABELS,)),
    "touches_border": Call(lambda labels: touches_border(labels, 9), (LABELS,)),
    "measure_volumes": Call(
        lambda labels: repr(measure_volumes("a", labels, AFFINE, HVSMR)), (LABELS,)
    ),
    "predict_volume": Call(predict_by_slices, (IMAGE,)),
    "predict_volume in tiles": Call(
        lambda voxels: predict_by_slices(np.repeat(voxels, 3, axis=1), tile_overlap=0.25), (IMAGE,)
    ),
    "predict_slices": Call(
        lambda picture: predict_slices(predict_by_brightness, [picture], RECIPE, num_classes=3)[0],
        (PICTURE,),
    ),
    "SliceSegmenter.segment": Call(segment_by_slices, (IMAGE,)),
    "WholeHeartSegmenter.segment": Call(segment_whole, (IMAGE,)),
}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("name", CALLS)
def test_the_order_in_memory_changes_neither_result_nor_argument(name, layout):
    check_layout(CALLS[name], layout)
