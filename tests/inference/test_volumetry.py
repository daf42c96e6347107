import numpy as np
import pytest

from heartseg.errors import DataError
from heartseg.inference.volumetry import (
    Doubt,
    VolumeRow,
    build_rows,
    measure_volumes,
    merge_volumes,
    read_volumes,
    write_volumes,
)
from heartseg.labels import LabelTable, Structure
from heartseg.measurements.diameters import Diameter, VesselDiameters
from heartseg.measurements.shapes import StructureShape
from heartseg.measurements.structures import StructureMeasurement, measure_structures

HEADER = (
    "case,structure,volume_ml,voxels,flags,stability,volume_ml_per_m2,mean_intensity,"
    "ratio_to_left,surface_area_mm2,largest_diameter_mm,median_diameter_mm,smallest_diameter_mm,"
    "confidence"
)

TABLE = LabelTable(
    (
        Structure(0, "background", "background", (0, 0, 0)),
        Structure(1, "LV", "left ventricle", (255, 0, 0)),
        Structure(2, "AO", "aorta", (0, 255, 0)),
        Structure(3, "PA", "pulmonary artery", (255, 255, 255)),
    )
)


def test_volumes_are_voxels_times_the_volume_of_one():
    labels = np.zeros((10, 12, 14), np.uint8)
    labels[2:7, 3:7, 4:9] = 1
    labels[0, 0, :2] = 2
    # 0.5 x 2 x 3 mm, sheared: the volume of a voxel is the determinant, 3 mm3.
    affine = np.array([[0.5, 0, 1, 0], [0, -2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])

    rows = measure_volumes("pat4", labels, affine, TABLE)

    assert rows == [
        VolumeRow("pat4", "LV", 0.3, 100, ""),
        VolumeRow("pat4", "AO", 0.006, 2, "truncated"),
        VolumeRow("pat4", "PA", 0.0, 0, "absent"),
    ]


def test_a_table_is_read_as_it_was_written_with_cases_in_natural_order(tmp_path):
    rows = [VolumeRow("pat10", "LV", 1.5, 3, ""), VolumeRow("pat2", "LV", 0.1, 1, "truncated")]
    file = tmp_path / "volumes.csv"

    write_volumes(file, rows)

    assert read_volumes(file) == rows[::-1]
    assert file.read_text().splitlines()[0] == HEADER


def test_stability_and_doubt_stand_beside_the_volume_and_are_read_back(tmp_path):
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[0, 2, 2] = 1
    labels[2, 2, 2] = 2

    stability, confidence = np.array([0.51234, 0.9, np.nan]), np.array([0.8, 0.91234, 0.5])
    doubt = Doubt(stability, confidence, np.array([True, False, True]))
    measured = measure_structures(labels, np.eye(4), TABLE.foreground)
    rows = build_rows("a", measured, TABLE, doubt=doubt)
    write_volumes(tmp_path / "v.csv", rows)

    rows = read_volumes(tmp_path / "v.csv")
    read = [(row.flags, row.stability, row.confidence) for row in rows]
    assert read == [("truncated;doubtful", 0.512, 0.8), ("", 0.9, 0.912), ("absent", None, None)]


def test_what_was_measured_stands_in_the_row_of_its_structure(tmp_path):
    table = LabelTable(
        tuple(
            Structure(value, key, key, (value, 0, 0))
            for value, key in enumerate(("background", "LV", "RV", "AO"))
        )
    )
    measured = [
        StructureMeasurement("LV", 2000, 50.0, 25.0, 0.123456789, truncated=False),
        StructureMeasurement("RV", 3000, 75.0, 37.5, None, truncated=True),
        StructureMeasurement("AO", 100, 2.5, 1.25, None, truncated=False),
    ]
    along = VesselDiameters(*(Diameter(d, (1.0, 2.0, 3.0)) for d in (30.25, 20.5, 10.125)))

    rows = build_rows("a", measured, table, shapes={"AO": StructureShape(1234.56, along)})
    write_volumes(tmp_path / "v.csv", rows)

    left, right, aorta = read_volumes(tmp_path / "v.csv")
    assert (left.volume_ml_per_m2, left.mean_intensity, left.ratio_to_left) == (25, 0.123457, None)
    assert (right.ratio_to_left, right.flags, right.surface_area_mm2) == (1.5, "truncated", None)
    assert aorta.surface_area_mm2 == 1234.6
    assert (aorta.largest_diameter_mm, aorta.median_diameter_mm) == (30.25, 20.5)
    assert aorta.smallest_diameter_mm == 10.12


@pytest.mark.parametrize(
    ("content", "stability"),
    [
        ("case,structure,volume_ml,voxels,flags\na,LV,1.5,3,truncated\n", None),
        ("case,structure,volume_ml,voxels,flags,quality\na,LV,1.5,3,truncated,0.9\n", 0.9),
        ("case,structure,volume_ml,voxels,flags,quality\na,LV,1.5,3,truncated,\n", None),
    ],
)
def test_a_table_of_an_earlier_version_is_read_and_extended(tmp_path, content, stability):
    file = tmp_path / "v.csv"
    file.write_text(content)
    old, new = VolumeRow("a", "LV", 1.5, 3, "truncated", stability), VolumeRow("b", "LV", 2, 4, "")

    assert read_volumes(file) == [old]
    write_volumes(file, merge_volumes(read_volumes(file), [new]))

    assert read_volumes(file) == [old, new]
    assert file.read_text().startswith(HEADER)


def test_a_missing_table_has_no_rows(tmp_path):
    assert read_volumes(tmp_path / "volumes.csv") == []


@pytest.mark.parametrize(
    "content",
    [
        "name,age\n",
        "case,structure,volume_ml,voxels,flags\npat4,LV,much,1,\n",
        "case,structure,volume_ml,voxels,flags\npat4,LV,1\n",
        "case,structure,volume_ml,voxels,flags,age\n",
        "",
    ],
)
def test_another_table_is_refused(tmp_path, content):
    file = tmp_path / "volumes.csv"
    file.write_text(content)

    with pytest.raises(DataError, match=r"volumes\.csv: (expected the columns|not a table)"):
        read_volumes(file)


def test_rows_of_a_case_that_was_measured_again_are_replaced():
    old, other = VolumeRow("a", "LV", 1, 1, ""), VolumeRow("b", "LV", 2, 2, "")
    new = VolumeRow("a", "LV", 3, 3, "")

    assert merge_volumes([old, other], [new]) == [other, new]
