"""A scan with two balls at known places of the patient, and its page."""

from dataclasses import replace

import numpy as np
from builders import make_affine, rotate

from heartseg.labels import HVSMR
from heartseg.pages.scan_page import Column, Row, ScanPage

SHAPE, SPACING_MM = (60, 48, 66), (0.8, 1.2, 0.7)
OBLIQUE = rotate(make_affine("PIR", SPACING_MM), (12.0, -9.0, 6.0))
LV, AO = 1, 5
LV_RADIUS_MM, AO_RADIUS_MM = 9.0, 5.0
AO_OFFSET_MM = np.array([8.0, 7.0, 9.0])
"""From the centre of the LV toward right, anterior and superior."""


def world_of(affine, shape=SHAPE):
    index = np.stack(np.meshgrid(*(np.arange(side) for side in shape), indexing="ij"), axis=-1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def lv_center_mm(affine=OBLIQUE):
    return affine[:3, :3] @ (np.array(SHAPE) / 2) + affine[:3, 3]


def make_page(affine=OBLIQUE, **changes) -> ScanPage:
    world, center = world_of(affine), lv_center_mm(affine)
    labels = np.zeros(SHAPE, np.uint8)
    labels[np.linalg.norm(world - center, axis=-1) <= LV_RADIUS_MM] = LV
    labels[np.linalg.norm(world - center - AO_OFFSET_MM, axis=-1) <= AO_RADIUS_MM] = AO
    rng = np.random.default_rng(0)
    image = np.where(labels > 0, 0.8, 0.3) + rng.normal(0, 0.02, SHAPE)
    page = ScanPage(
        title="pat0.nii.gz",
        image=image,
        labels=labels,
        affine=affine,
        table=HVSMR,
        window=(0.0, 1.0),
        columns=(Column("Volume (mL)"), Column("Ratio", digits=2)),
        rows=(Row(LV, (3.14159, 0.5)), Row(2, (None, None), ("absent",))),
        facts={"RV/LV": "1.23"},
        notices=("The views agree poorly.",),
        provenance={"Model": "whole_heart"},
    )
    return replace(page, **changes)
