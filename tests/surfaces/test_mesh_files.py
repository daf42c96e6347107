"""The files of surfaces, as trimesh reads them and 3D Slicer looks at their headers."""

import json

import numpy as np
import pytest
import trimesh
from builders import make_affine, rotate
from solids import ball

from heartseg.labels import HVSMR
from heartseg.surfaces.label_surfaces import build_surfaces
from heartseg.surfaces.mesh_files import FORMATS, write_surfaces

AFFINE = rotate(make_affine("PIR", (0.8, 1.0, 1.5), (20.0, 60.0, -10.0)), (20, -15, 40))


@pytest.fixture(scope="module")
def heart():
    """Return the label map of two balls (LV, PA), and their surfaces."""
    labels = np.zeros((36, 24, 16), np.uint8)
    labels[ball(labels.shape, (9, 11, 11), 8)] = 1
    labels[ball(labels.shape, (21, 11, 11), 6) & (labels == 0)] = 6
    return labels, build_surfaces(labels, AFFINE, HVSMR)


def center_lps(mask):
    """Return the centre of the voxels of a mask: left, posterior, superior."""
    x, y, z = np.argwhere(mask).mean(axis=0) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    return np.array([-x, -y, z])


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_file_holds_a_closed_surface_in_lps_millimetres(heart, tmp_path, file_format):
    labels, surfaces = heart

    files = write_surfaces(surfaces, HVSMR, tmp_path, "a", file_format=file_format)

    names = [f"a_{key}.{file_format}" for key in ("LV", "PA", "blood_pool")]
    assert [file.name for file in files] == [*names, "a_heart.glb"]
    read = trimesh.load(files[0])
    mesh = next(iter(read.geometry.values())) if file_format == "glb" else read
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume == pytest.approx((labels == 1).sum() * 1.2, rel=0.01)
    np.testing.assert_allclose(mesh.center_mass, center_lps(labels == 1), atol=0.2)


def test_headers_say_which_axes_and_unit_a_file_has(heart, tmp_path):
    for file_format in ("stl", "ply", "obj"):
        file = write_surfaces(heart[1], HVSMR, tmp_path, "a", file_format=file_format)[0]
        header = file.read_bytes()[:160]
        assert b"millimetres; SPACE=LPS" in header
        # A binary STL file must not begin like one in text.
        assert not header.startswith(b"solid")


def test_the_heart_has_named_and_coloured_parts(heart, tmp_path):
    labels, surfaces = heart

    write_surfaces(surfaces, HVSMR, tmp_path, "a")

    scene = trimesh.load(tmp_path / "a_heart.glb")
    assert set(scene.geometry) == {"LV", "PA"}
    # As people see them, (180, 60, 60) and (75, 75, 255), in the linear light of glTF.
    for key, color in (("LV", (116, 12, 12)), ("PA", (18, 18, 255))):
        material = scene.geometry[key].visual.material
        assert tuple(material.baseColorFactor[:3]) == color
    assert scene.geometry["LV"].visual.material.name == "left ventricle"
    # A viewer has up along its second axis: who opens the file sees the heart from anterior.
    left, posterior, superior = center_lps(labels == 6)
    place = scene.graph.get("PA")[0]
    shown = trimesh.transform_points([scene.geometry["PA"].center_mass], place)[0]
    np.testing.assert_allclose(shown, (left, superior, -posterior), atol=0.3)


def test_all_but_stl_name_the_model_that_made_the_label_map(heart, tmp_path):
    for file_format in ("ply", "obj", "glb"):
        model = "best.keras,\nsha256 0123"
        write_surfaces(heart[1], HVSMR, tmp_path, "a", file_format=file_format, model=model)

    for name in ("a_LV.ply", "a_LV.obj"):
        assert b"SPACE=LPS; model best.keras, sha256 0123\n" in (tmp_path / name).read_bytes()[:300]
    for name in ("a_LV.glb", "a_heart.glb"):
        content = (tmp_path / name).read_bytes()
        # A file of glTF begins with 20 bytes, of which four are the length of its JSON.
        tree = json.loads(content[20 : 20 + int.from_bytes(content[12:16], "little")])
        assert tree["asset"]["extras"]["model"].split() == ["best.keras,", "sha256", "0123"]
    assert trimesh.load(tmp_path / "a_LV.ply").is_watertight


def test_equal_surfaces_give_equal_files(heart, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_surfaces(heart[1], HVSMR, tmp_path / name, "a")

    for file in (tmp_path / "first").iterdir():
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes()
