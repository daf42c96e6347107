"""``heartseg surfaces``: label maps as closed surfaces, and as hollow models to print."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartseg.cohort.inputs import find_inputs
from heartseg.cohort.pairing import ENDPOINTS, Suffixes, case_name
from heartseg.errors import BatchError, DataError
from heartseg.exchange.label_maps import may_be_cut, read_labels, read_labels_with_room
from heartseg.exchange.structure_files import choose_structures, keep_structures
from heartseg.files import (
    check_distinct,
    image_stem,
    list_files,
    logging_once,
    replacing_all,
    write_json,
)
from heartseg.label_tables import blood_structures
from heartseg.labels import LabelTable, Structure
from heartseg.measurements.structures import touches_border
from heartseg.ownership import add_to_record, check_own
from heartseg.plurals import counted
from heartseg.progress import Report, silent
from heartseg.scans.provenance import read_provenance
from heartseg.scans.reading import LABEL_MAP_SUFFIXES
from heartseg.scans.volume import Volume, check_same_grid
from heartseg.surfaces.isosurface import Mesh
from heartseg.surfaces.label_surfaces import BLOOD_POOL, build_surfaces, describe_scatter
from heartseg.surfaces.mesh_files import BLOOD, heart_file, mesh_file, write_mesh, write_surfaces
from heartseg.surfaces.wall import MAX_TRIANGLES, TOLERANCE_MM, Thickness, Wall, build_wall

logger = logging.getLogger(__name__)

COMMAND = "surfaces"
OUTPUT_DIR = Path("surfaces")
WALL = "wall"
RECORD_SUFFIX = "_surfaces.json"
DEFAULT_SUFFIXES = Suffixes("_cropped_norm", "_cropped_seg", "_cropped_seg_endpoints")


@dataclass(frozen=True)
class SurfaceOptions:
    """How surfaces are made.

    Attributes:
        file_format: ``stl``, ``ply``, ``obj`` or ``glb``.
        smooth_mm: Standard deviation of the smoothing; None: one voxel along each axis.
        triangles: Most triangles of a surface; None: as many as the voxels give.
        wall_mm: Thickness of the wall of a hollow model; None: no such model.
        structures: Keys of the structures that are wanted; None: all.
    """

    file_format: str = "stl"
    smooth_mm: float | None = None
    triangles: int | None = None
    wall_mm: float | None = None
    structures: tuple[str, ...] | None = None


@dataclass(frozen=True)
class CaseSurfaces:
    """What was made of one label map.

    Attributes:
        name: What the names of its files begin with.
        files: The files.
        absent: Keys of structures without a voxel.
        thickness: Of the wall, if there is one.
    """

    name: str
    files: tuple[Path, ...]
    absent: tuple[str, ...]
    thickness: Thickness | None


@dataclass(frozen=True)
class SurfacesResult:
    """What ``surfaces`` did.

    Attributes:
        output_dir: Folder of the files.
        cases: What was made of each label map.
    """

    output_dir: Path
    cases: tuple[CaseSurfaces, ...]


@dataclass(frozen=True)
class _Task:
    """One label map, its end zones, and every file that may come of it."""

    file: Path
    name: str
    endpoints: Path | None
    outputs: tuple[Path, ...]


@logging_once()
def run_surfaces(
    inputs: Sequence[Path],
    *,
    table: LabelTable,
    options: SurfaceOptions,
    output_dir: Path | None = None,
    endpoints: Path | None = None,
    suffixes: Suffixes = DEFAULT_SUFFIXES,
    overwrite: bool = False,
    report: Report = silent,
) -> SurfacesResult:
    """Make the surfaces of label maps.

    Args:
        inputs: Label maps of any tool and format, and folders of them.
        table: The structures and their colours.
        options: How surfaces are made.
        output_dir: Folder of the files; None: ``surfaces`` in the working directory.
        endpoints: Label map of the end zones, where the wall is opened; for several label maps a
            folder of such files, paired by case name.
        suffixes: How the files of the data set are named.
        overwrite: Replace earlier results.
        report: Called after each label map.

    Raises:
        DataError: If there is nothing to read, an option makes no sense, or a result would be lost.
        BatchError: If some label maps have no surfaces; the others are done.
    """
    structures = choose_structures(table, options.structures)
    if endpoints is not None and options.wall_mm is None:
        raise DataError("surfaces: --endpoints opens the wall of a hollow model; add --wall MM")
    output_dir = output_dir or OUTPUT_DIR
    skipped = (suffixes.image, suffixes.endpoints, ENDPOINTS)
    files, problems = find_inputs(
        inputs, endings=LABEL_MAP_SUFFIXES, skipped_suffixes=[s for s in skipped if s]
    )
    if not files:
        raise DataError(
            "\n".join(problems) or "surfaces: expected label maps or folders of them, found none"
        )
    zones = _find_endpoints(files, endpoints, suffixes)
    tasks = [_plan(file, zones[file], structures, output_dir, options, suffixes) for file in files]
    _check(tasks, overwrite=overwrite)
    cases = []
    for done, task in enumerate(tasks, start=1):
        try:
            case = _make(task, structures, table, options)
        except DataError as error:
            problems.append(str(error))
        else:
            cases.append(case)
            add_to_record(output_dir, COMMAND, case.files)
        report(done, len(tasks), task.file.name)
    if problems:
        others = f" ({counted(len(cases), 'other')} in {output_dir})" if cases else ""
        raise BatchError(
            f"{counted(len(problems), 'label map')} could not be made into surfaces{others}",
            problems,
        )
    return SurfacesResult(output_dir, tuple(cases))


def _find_endpoints(
    files: Sequence[Path], endpoints: Path | None, suffixes: Suffixes
) -> dict[Path, Path | None]:
    """Return the file of the end zones of each label map."""
    if endpoints is None:
        return dict.fromkeys(files)
    if not endpoints.is_dir():
        if len(files) > 1:
            raise DataError(
                f"{endpoints}: one file cannot hold the end zones of several label maps; expected "
                "a folder"
            )
        return {files[0]: endpoints}
    endings = tuple(s.lower() for s in (suffixes.endpoints, ENDPOINTS) if s)
    by_case = {
        case_name(file, suffixes.all): file
        for file in list_files(endpoints, LABEL_MAP_SUFFIXES)
        if image_stem(file).lower().endswith(endings)
    }
    found = {file: by_case.get(case_name(file, suffixes.all)) for file in files}
    missing = [file.name for file, zones in found.items() if zones is None]
    if missing:
        raise DataError(
            f"{endpoints}: expected a file that ends in {suffixes.endpoints} or {ENDPOINTS} for "
            f"each label map, found none for {', '.join(missing)}"
        )
    return found


def _plan(
    file: Path,
    endpoints: Path | None,
    structures: Sequence[Structure],
    output_dir: Path,
    options: SurfaceOptions,
    suffixes: Suffixes,
) -> _Task:
    name = case_name(file, suffixes.all)
    keys = [*(s.key for s in structures), BLOOD_POOL, *([WALL] if options.wall_mm else [])]
    outputs = [mesh_file(output_dir, name, key, options.file_format) for key in keys]
    outputs += [heart_file(output_dir, name), output_dir / f"{name}{RECORD_SUFFIX}"]
    return _Task(file, name, endpoints, tuple(outputs))


def _check(tasks: Sequence[_Task], *, overwrite: bool) -> None:
    """Make sure that no file is written twice, and none that is there is lost."""
    check_distinct(
        ((task.file, task.outputs) for task in tasks),
        advice="pass them in two calls with different --output",
    )
    for task in tasks:
        for output in task.outputs:
            if output.exists() and not overwrite:
                raise DataError(
                    f"{output}: already exists; pass --overwrite to replace it, or choose another "
                    "--output"
                )
            check_own(output, COMMAND)


def _make(
    task: _Task,
    structures: Sequence[Structure],
    table: LabelTable,
    options: SurfaceOptions,
) -> CaseSurfaces:
    volume = read_labels_with_room(task.file, table)
    zones = None if task.endpoints is None else _read_zones(task, volume, table)
    keys = [structure.key for structure in structures]
    scatter = describe_scatter(keep_structures(volume.voxels, structures))
    if scatter is not None:
        raise DataError(f"{task.file}: {scatter}; is it the right file?")
    surfaces = build_surfaces(
        volume.voxels,
        volume.affine,
        table,
        smooth_mm=options.smooth_mm,
        triangles=options.triangles,
        keys=keys,
    )
    if not surfaces:
        raise DataError(f"{task.file}: expected a voxel of {', '.join(keys)}, found none")
    absent = tuple(key for key in keys if key not in surfaces)
    if absent:
        logger.info("%s: no voxel and no surface of %s", task.name, ", ".join(absent))
    if options.wall_mm is not None and BLOOD_POOL not in surfaces:
        raise DataError(
            f"{task.file}: expected blood to build a wall around, found {', '.join(surfaces)} "
            "only; leave out --wall, or name structures with blood"
        )
    wall = _build_wall(volume, zones, table, options, keys)
    if wall is None and options.wall_mm is not None:
        raise DataError(
            f"{task.file}: nothing is left of the wall, since all of the blood lies at the border "
            "of the label map or in end zones; leave out --wall, or check the end zones"
        )
    maker = read_provenance(volume.header)
    model = "" if maker is None else maker.model
    if wall is not None and not wall.opened:
        logger.warning(
            "%s: the wall is closed on all sides, since no vessel reaches the border of the "
            "label map%s",
            task.name,
            "" if zones is not None else "; --endpoints FILE names where vessels end",
        )
    described = _describe(volume, surfaces, structures, table, options, wall)
    with replacing_all(task.outputs) as temporary:
        folder = temporary[0].parent
        write_surfaces(
            surfaces, table, folder, task.name, file_format=options.file_format, model=model
        )
        if wall is not None:
            part = Structure(0, WALL, "wall of the blood pool", BLOOD.color)
            file = mesh_file(folder, task.name, WALL, options.file_format)
            write_mesh(file, wall.mesh, part, model=model)
        write_json(folder / f"{task.name}{RECORD_SUFFIX}", {**described, "model": model or None})
    files = tuple(file for file in task.outputs if file.is_file())
    return CaseSurfaces(task.name, files, absent, None if wall is None else wall.thickness)


def _read_zones(task: _Task, volume: Volume, table: LabelTable) -> NDArray[np.uint8]:
    if task.endpoints is None:
        return np.zeros_like(volume.voxels)
    if may_be_cut(task.file):
        return np.asarray(read_labels(task.endpoints, table, like=volume).voxels, np.uint8)
    zones = read_labels(task.endpoints, table)
    check_same_grid(zones, volume, names=(str(task.endpoints), str(task.file)))
    return np.asarray(zones.voxels, np.uint8)


def _build_wall(
    volume: Volume,
    zones: NDArray[np.uint8] | None,
    table: LabelTable,
    options: SurfaceOptions,
    keys: Sequence[str],
) -> Wall | None:
    if options.wall_mm is None:
        return None
    return build_wall(
        volume.voxels,
        volume.affine,
        table,
        wall_mm=options.wall_mm,
        smooth_mm=options.smooth_mm,
        keys=keys,
        zones=zones,
        triangles=options.triangles or MAX_TRIANGLES,
    )


def _describe(
    volume: Volume,
    surfaces: dict[str, Mesh],
    structures: Sequence[Structure],
    table: LabelTable,
    options: SurfaceOptions,
    wall: Wall | None,
) -> dict[str, Any]:
    """Return what stands beside the surfaces: how they were made, and what they measure."""
    voxel_ml = abs(float(np.linalg.det(volume.affine[:3, :3]))) / 1000
    cut_off = touches_border(volume.voxels, table.num_classes)
    masks = {s.key: volume.voxels == s.value for s in structures}
    blood = [s.value for s in blood_structures(table) if s in structures]
    masks[BLOOD_POOL] = np.isin(volume.voxels, blood)
    described: dict[str, Any] = {
        "coordinates": "millimetres; left, posterior, superior (LPS)",
        "smooth_mm": volume.spacing_mm.round(4).tolist()
        if options.smooth_mm is None
        else options.smooth_mm,
        "surfaces": {
            key: {
                "triangles": len(mesh.triangles),
                "volume_ml": round(mesh.volume_mm3 / 1000, 4),
                "volume_of_voxels_ml": round(int(masks[key].sum()) * voxel_ml, 4),
                "area_mm2": round(mesh.area_mm2, 1),
            }
            for key, mesh in surfaces.items()
        },
        "absent": [key for key in masks if key not in surfaces],
        "truncated": [s.key for s in structures if cut_off[s.value]],
    }
    if wall is not None:
        measured = {key: round(value, 4) for key, value in asdict(wall.thickness).items()}
        described["wall"] = {
            "wanted_mm": options.wall_mm,
            **measured,
            "tolerance_mm": TOLERANCE_MM,
            "opened": list(wall.opened),
            "triangles": len(wall.mesh.triangles),
        }
    return described
