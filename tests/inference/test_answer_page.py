import nibabel
import numpy as np
import pytest

from heartseg.inference.answer_page import build_scan_page
from heartseg.inference.volumetry import Doubt, VolumeRow, build_rows, measure_volumes
from heartseg.label_tables import ACDC
from heartseg.labels import HVSMR
from heartseg.measurements.diameters import Diameter, VesselDiameters
from heartseg.measurements.shapes import StructureShape
from heartseg.measurements.structures import VolumeRatio, measure_structures
from heartseg.scans.volume import Volume

AFFINE = np.diag([10.0, 10.0, 10.0, 1.0])


def make_scan():
    """Voxels of 1 mL: 6 of the LV, 2 of the aorta at the border."""
    labels = np.zeros((6, 5, 4), np.uint8)
    labels[1:4, 1:3, 1] = 1
    labels[0, 2, 2:4] = 5
    image = np.linspace(0, 1, labels.size).reshape(labels.shape).astype(np.float32)
    return Volume(image, AFFINE, nibabel.Nifti1Header()), labels


def test_volumes_parts_and_flags_become_rows():
    image, labels = make_scan()
    rows = measure_volumes("pat0", labels, AFFINE, HVSMR)

    page = build_scan_page(image, labels, HVSMR, title="pat0.nii", rows=rows)

    assert [column.title for column in page.columns] == [
        "Volume (mL)",
        "Part of all structures (%)",
    ]
    found = {row.value: (list(row.values), list(row.flags)) for row in page.rows}
    assert found[1] == ([6.0, 75.0], [])
    assert found[5] == ([2.0, 25.0], ["truncated"])
    assert found[2] == ([None, None], ["absent"])
    assert len(found) == 8
    assert page.facts == {"All structures": "8.0 mL"}
    # All but half a percent at each end.
    assert page.window == pytest.approx((0.005, 0.995), abs=1e-6)


def test_the_volume_of_blood_leaves_muscle_out():
    image, labels = make_scan()
    labels[labels == 5] = 2
    rows = measure_volumes("pat0", labels, AFFINE, ACDC)

    page = build_scan_page(image, labels, ACDC, title="pat0.nii", rows=rows)

    assert page.facts == {"All structures": "8.0 mL", "Blood, without muscle": "6.0 mL"}


def test_the_stability_between_views_is_a_column_where_there_is_one():
    image, labels = make_scan()
    rows = [
        VolumeRow("pat0", "LV", 6.0, 6, "doubtful", 0.71),
        VolumeRow("pat0", "AO", 2.0, 2, "truncated;doubtful", None),
    ]

    page = build_scan_page(image, labels, HVSMR, title="pat0.nii", rows=rows)

    assert page.columns[2].title == "Stability between views"
    assert [row.values[2] for row in page.rows] == [0.71, None]
    assert page.rows[1].flags == ["truncated", "doubtful"]


def test_nothing_found_is_a_page_too():
    image, labels = make_scan()
    empty = np.zeros_like(labels)

    page = build_scan_page(
        image, empty, HVSMR, title="pat0", rows=measure_volumes("pat0", empty, AFFINE, HVSMR)
    )

    assert page.facts == {"All structures": "0.0 mL"}
    assert all(list(row.values) == [None, None] for row in page.rows)


def test_measurements_become_columns_and_facts():
    image, labels = make_scan()
    along = VesselDiameters(*(Diameter(size, (-12.25, 30.0, -5.0)) for size in (30.0, 20.0, 10.0)))
    shapes = {"AO": StructureShape(1234.0, along)}
    measured = measure_structures(labels, AFFINE, HVSMR.foreground, image.voxels, body_m2=0.5)

    page = build_scan_page(
        image,
        labels,
        HVSMR,
        title="pat0",
        rows=build_rows("pat0", measured, HVSMR, shapes=shapes, doubt=Doubt(learned=True)),
        ratios=[VolumeRatio("RV/LV", "RV", 1.234, truncated=True)],
        shapes=shapes,
        body_m2=0.5,
    )

    aorta = {c.title: v for c, v in zip(page.columns, page.rows[4].values, strict=True)}
    assert aorta["Volume (mL/m²)"] == 4
    assert aorta["Surface area (cm²)"] == 12.34
    assert [aorta[f"{name} diameter (mm)"] for name in ("Largest", "Median", "Smallest")] == [
        *(30, 20, 10)
    ]
    assert page.rows[4].flags == ["truncated"]
    assert page.facts["RV/LV"] == "1.23; one of them reaches the border of the scan"
    assert page.facts["AO, places of the diameters"] == (
        "largest at L 12.2, A 30.0, I 5.0 mm; median at L 12.2, A 30.0, I 5.0 mm; smallest at "
        "L 12.2, A 30.0, I 5.0 mm"
    )
    assert page.facts["Body surface area"] == "0.50 m²"
