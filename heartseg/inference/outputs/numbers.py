"""All numbers of a scan, for programs: ``CASE.json``."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from heartseg import __version__
from heartseg.files import write_json
from heartseg.inference.outputs.output_format import one_file
from heartseg.inference.results import SegmentedScan


def _write(file: Path, result: SegmentedScan) -> None:
    write_json(file, _describe(result))


def _describe(result: SegmentedScan) -> dict[str, Any]:
    """Return the numbers; equal scans give equal ones, so no time and no device is among them."""
    names = {structure.key: structure.name for structure in result.structures}
    structures = {}
    for row in result.rows:
        entry = asdict(row)
        for column in ("case", "structure", "ratio_to_left"):
            del entry[column]
        shape = result.shapes.get(row.structure)
        diameters = None if shape is None else shape.diameters
        for which in ("largest", "median", "smallest"):
            del entry[f"{which}_diameter_mm"]
        structures[row.structure] = {
            "name": names[row.structure],
            **entry,
            "flags": row.flags.split(";") if row.flags else [],
            "diameters": None
            if diameters is None
            else {
                which: {
                    "diameter_mm": round(found["diameter_mm"], 2),
                    "place_mm": [round(value, 2) for value in found["place_mm"]],
                }
                for which, found in asdict(diameters).items()
            },
        }
    return {
        "case": result.case,
        "purpose": "for research only; not a medical device",
        "model": result.model.identity or result.model.kind,
        "heartseg": __version__,
        "scan_hash": result.scan_hash,
        "coordinates": "millimetres; right, anterior, superior (RAS)",
        "body_surface_m2": result.wanted.body_m2 and round(result.wanted.body_m2, 4),
        "shapes_measured": result.wanted.shapes,
        "structures": structures,
        "ratios": {
            entry.name: {
                "ratio": None if entry.ratio is None else round(entry.ratio, 4),
                "flags": ["truncated"] if entry.truncated else [],
            }
            for entry in result.ratios
        },
        "declared_absent": list(result.absent),
        "notices": list(result.notices),
    }


NUMBERS = one_file(".json", _write)
