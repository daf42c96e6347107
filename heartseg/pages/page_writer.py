"""The page of a scan: one file of HTML that needs no other file and no network."""

import base64
import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from heartseg.files import replacing
from heartseg.labels import Structure
from heartseg.opencv import cv2
from heartseg.pages.heart_surfaces import coarse_surfaces
from heartseg.pages.payload import pack_scan, pack_surfaces
from heartseg.pages.scan_page import FLAGS, Row, ScanPage
from heartseg.pictures.framing import HeartBox, find_heart
from heartseg.pictures.previews import preview_sheet
from heartseg.scans.geometry import Plane
from heartseg.scans.volume import Volume

SCRIPTS = ("unpack.js", "planes.js", "heart.js", "controls.js")
SIDES = ("anterior", "posterior", "left", "right", "superior", "inferior")
_JPEG_QUALITY = 90
_VIEWS = tuple(
    {"name": plane.value, "title": plane.value.capitalize()}
    for plane in (Plane.AXIAL, Plane.CORONAL, Plane.SAGITTAL)
)


def write_scan_page(file: Path, page: ScanPage) -> None:
    """Write the page of a scan.

    Equal pages give equal files.

    Args:
        file: Where to, usually ``NAME_report.html``.
        page: What it shows.

    Raises:
        DataError: If the file cannot be written.
    """
    content = render_scan_page(page).encode("utf-8")
    with replacing(file) as temporary:
        temporary.write_bytes(content)


def render_scan_page(page: ScanPage) -> str:
    """Build the page of a scan.

    Args:
        page: What it shows.

    Returns:
        The HTML. Its own style and script are all that its security policy lets run.
    """
    box = find_heart(page.labels, page.affine)
    style, script = _style(page), _script()
    # Titles, names and notices come from outside: everything is escaped but what is made here.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(
        _read("page.html")
    ).render(
        page=page,
        policy=_policy(style, script),
        style=Markup(style),  # noqa: S704 - our own file, and numbers
        script=Markup(script),  # noqa: S704 - our own files
        payload=Markup(_payload(page, box)),  # noqa: S704 - JSON without any tag
        still=_still(page),
        views=_VIEWS,
        sides=SIDES,
        structures=_structures(page),
        rows=[_row(row, page) for row in page.rows],
        notices=[f"{notice[:1].upper()}{notice[1:]}" for notice in page.notices],
    )


def _read(name: str) -> str:
    return files("heartseg.pages").joinpath(name).read_text(encoding="utf-8")


def _style(page: ScanPage) -> str:
    """Return the style sheet with the structures' colours: their elements cannot carry them."""
    colors = "".join(
        f".s{s.value} {{ --color: rgb{page.table.display_color(s)}; }}\n"
        for s in page.table.foreground
    )
    return _read("page.css") + colors


def _script() -> str:
    parts = "\n".join(_read(name) for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}}})();\n'


def _policy(style: str, script: str) -> str:
    """Allow this style and this script by their hashes, pictures in the page, and nothing else."""
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
        for text in (style, script)
    )
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'; "
        f"script-src 'sha256-{script_hash}'; base-uri 'none'; form-action 'none'"
    )


def _payload(page: ScanPage, box: HeartBox) -> str:
    surfaces = page.surfaces
    if surfaces is None:
        surfaces = coarse_surfaces(page.labels, page.affine, page.table)
    content = {
        **pack_scan(page, box),
        "surfaces": pack_surfaces(surfaces, box),
        "structures": _structures(page),
    }
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    # A structure named "</script>" must not end the element that holds it.
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _structures(page: ScanPage) -> list[dict[str, Any]]:
    present = np.bincount(page.labels.ravel(), minlength=page.table.num_classes) > 0
    return [
        {
            "value": s.value,
            "key": s.key,
            "name": s.name if s.name != s.key else "",
            "color": page.table.display_color(s),
            "present": bool(present[s.value]),
        }
        for s in page.structures or page.table.foreground
    ]


def _row(row: Row, page: ScanPage) -> dict[str, Any]:
    structure: Structure = page.table.structures[row.value]
    return {
        "value": row.value,
        "key": structure.key,
        "name": structure.name if structure.name != structure.key else "",
        "cells": [
            "\N{EN DASH}" if value is None else f"{value:.{column.digits}f}"
            for column, value in zip(page.columns, row.values, strict=True)
        ],
        "notes": "; ".join(FLAGS.get(flag, flag) for flag in row.flags),
    }


def _still(page: ScanPage) -> str:
    """Draw what paper shows, and browsers without scripts: the preview, as a ``data:`` address."""
    volume = Volume(page.image, page.affine, nibabel.Nifti1Header())
    sheet = preview_sheet(
        volume,
        page.labels,
        page.table,
        plane=Plane.AXIAL,
        limits=page.window,
        structures=page.structures,
    )
    _, encoded = cv2.imencode(".jpg", sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
