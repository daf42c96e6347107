"""Closed surfaces: ``CASE_LV.stl`` and others, ``CASE_blood_pool.stl``, ``CASE_heart.glb``."""

from collections.abc import Sequence
from pathlib import Path

from heartseg.inference.outputs.output_format import OutputFormat
from heartseg.inference.results import SegmentedScan


def _write(files: Sequence[Path], result: SegmentedScan) -> None:
    # Not above: trimesh and scikit-image take half a second, and most calls write no surface.
    from heartseg.surfaces.label_surfaces import add_blood_pool
    from heartseg.surfaces.mesh_files import write_surfaces

    if result.heart is not None:
        surfaces = add_blood_pool(result.heart, result.labels, result.scan.affine)
        write_surfaces(
            surfaces, result.table, files[0].parent, result.case, model=result.model.identity
        )


SURFACES = OutputFormat(("_{structure}.stl", "_blood_pool.stl", "_heart.glb"), _write)
