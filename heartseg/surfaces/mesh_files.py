"""Surfaces as STL, PLY, OBJ and glTF files: millimetres, axes left, posterior, superior (LPS).

STL, PLY and OBJ say so in their headers in the words that 3D Slicer looks for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray
from trimesh.exchange.gltf import export_glb
from trimesh.exchange.obj import export_obj
from trimesh.exchange.ply import export_ply
from trimesh.exchange.stl import export_stl

from heartseg.files import replacing
from heartseg.labels import LabelTable, Structure
from heartseg.surfaces.isosurface import Mesh
from heartseg.surfaces.label_surfaces import BLOOD_POOL

FORMATS = ("stl", "ply", "obj", "glb")
HEART = "heart"
"""What the name of the file that holds all structures ends in."""
SPACE = "SPACE=LPS"
"""By this note 3D Slicer knows the axes of a file."""
MODEL = "model"
"""What comes before the identity of the model in a comment, and its key in glTF."""
BLOOD = Structure(0, BLOOD_POOL, "blood pool", (190, 60, 60))
_TO_LPS = np.array([-1.0, -1.0, 1.0])
_UPRIGHT = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""From LPS to the axes of a glTF scene: up is superior, and who looks at it looks from anterior."""
_STL_HEADER_BYTES = 80
_TRIMESH = b"comment https://github.com/mikedh/trimesh\n"


def mesh_file(folder: Path, name: str, key: str, file_format: str) -> Path:
    """Return where the surface of a structure of a scan goes: ``NAME_LV.stl``."""
    return folder / f"{name}_{key}.{file_format}"


def heart_file(folder: Path, name: str) -> Path:
    """Return where all structures of a scan go together: ``NAME_heart.glb``."""
    return folder / f"{name}_{HEART}.glb"


def write_surfaces(
    surfaces: Mapping[str, Mesh],
    table: LabelTable,
    folder: Path,
    name: str,
    *,
    file_format: str = "stl",
    model: str = "",
) -> list[Path]:
    """Write one file per surface, and all structures, named and coloured, as ``NAME_heart.glb``.

    Args:
        surfaces: Surfaces by the keys of their structures, and ``blood_pool``; axes right,
            anterior, superior.
        table: Names and display colours of the structures.
        folder: The folder of the files.
        name: What the names of the files begin with.
        file_format: ``stl``, ``ply``, ``obj`` or ``glb``.
        model: What made the label map, which all but STL files name; empty: unknown.

    Returns:
        The files.

    Raises:
        DataError: If a file cannot be written.
    """
    # Surfaces are for people: no white and no grey.
    shown = (replace(s, color=table.display_color(s)) for s in table.foreground)
    parts = {s.key: s for s in (*shown, BLOOD)}
    files = []
    for key, mesh in surfaces.items():
        file = mesh_file(folder, name, key, file_format)
        write_mesh(file, mesh, parts[key], model=model)
        files.append(file)
    structures = [(parts[key], mesh) for key, mesh in surfaces.items() if key != BLOOD_POOL]
    if structures:
        _write_bytes(heart_file(folder, name), _to_glb(structures, model))
        files.append(heart_file(folder, name))
    return files


def write_mesh(file: Path, mesh: Mesh, structure: Structure, *, model: str = "") -> None:
    """Write a surface in the format that the name of the file ends in.

    Args:
        file: The new file.
        mesh: The surface; axes right, anterior, superior.
        structure: Its name and colour.
        model: As for ``write_surfaces``.

    Raises:
        DataError: If the file cannot be written.
    """
    encode = {".stl": _to_stl, ".ply": _to_ply, ".obj": _to_obj, ".glb": _to_single_glb}
    # In comments of one line.
    _write_bytes(file, encode[file.suffix](mesh, structure, " ".join(model.split())))


def _write_bytes(file: Path, content: bytes) -> None:
    with replacing(file) as temporary:
        temporary.write_bytes(content)


def _note(structure: Structure, model: str = "") -> str:
    made = f"; {MODEL} {model}" if model else ""
    return f"heartseg {structure.name}; millimetres; {SPACE}{made}"


def _in_lps(mesh: Mesh) -> trimesh.Trimesh:
    # Two axes change their sign: triangles stay anticlockwise.
    return trimesh.Trimesh(mesh.vertices_mm * _TO_LPS, mesh.triangles, process=False)


def _to_stl(mesh: Mesh, structure: Structure, _model: str) -> bytes:
    # The header has no room for the model.
    header = _note(structure).encode("ascii", "replace")[:_STL_HEADER_BYTES]
    content: bytes = export_stl(_in_lps(mesh))
    return header.ljust(_STL_HEADER_BYTES) + content[_STL_HEADER_BYTES:]


def _to_ply(mesh: Mesh, structure: Structure, model: str) -> bytes:
    colored = _in_lps(mesh)
    colored.visual.vertex_colors = (*structure.color, 255)
    content: bytes = export_ply(colored)
    return content.replace(
        _TRIMESH, f"comment {_note(structure, model)}\n".encode("ascii", "replace"), 1
    )


def _to_obj(mesh: Mesh, structure: Structure, model: str) -> bytes:
    text: str = export_obj(
        _in_lps(mesh),
        header=_note(structure, model),
        include_normals=False,
        include_color=False,
        digits=5,
    )
    return text.encode("utf-8")


def _to_single_glb(mesh: Mesh, structure: Structure, model: str) -> bytes:
    return _to_glb([(structure, mesh)], model)


def _to_glb(parts: Sequence[tuple[Structure, Mesh]], model: str) -> bytes:
    scene = trimesh.Scene(base_frame="world")
    for structure, mesh in parts:
        part = _in_lps(mesh)
        material = trimesh.visual.material.PBRMaterial(
            name=structure.name,
            baseColorFactor=[*_linear(structure.color), 1.0],
            metallicFactor=0.0,
            roughnessFactor=0.6,
        )
        part.visual = trimesh.visual.TextureVisuals(material=material)
        scene.add_geometry(part, structure.key, structure.key, transform=_UPRIGHT)

    def note(tree: dict[str, Any]) -> None:
        made = {MODEL: model} if model else {}
        tree["asset"]["extras"] = {"meshes": f"millimetres; {SPACE}", **made}

    content: bytes = export_glb(scene, include_normals=True, tree_postprocessor=note)
    return content


def _linear(color: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return how bright a colour of a screen is, which is what glTF asks for."""
    screen = np.array(color) / 255
    bright = np.where(screen <= 0.04045, screen / 12.92, ((screen + 0.055) / 1.055) ** 2.4)
    return np.asarray(bright, np.float64)
