"""What can real slices of patients whose volumes are missing be used for?

The slices of a patient are set into a volume at their true places. To score a model, the gaps are
interpolated, and the slices are scored:

    python benchmarks/experiments/real_slices.py --score MODEL.keras

To learn from, the gaps are drawn from the label map, in the grey levels that blood, wall and
surroundings have in the slices; far from them nothing counts as labelled. Scans and label maps in
part are written for ``heartseg train`` with ``data.image_suffix=_norm data.label_suffix=_seg``:

    python benchmarks/experiments/real_slices.py --write FOLDER

``slices_full`` shows the whole field of view, ``slices`` what the label maps cover.
"""

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
from field_of_view import DATA, score
from numpy.typing import NDArray
from scipy import ndimage

import heartseg
from heartseg.labels import HVSMR
from heartseg.scans.intensity import rough_level
from heartseg.scans.volume import UNLABELLED, Volume, read_image, read_label_map

Array = NDArray[np.float32]

REAL_MM = 2.5
"""From a slice to where its volume is drawn alone."""
FAR_MM = 22.0
"""Farther from every slice nothing counts as labelled."""
BEYOND_MM = 8.0
"""The same beyond the outermost slices: nothing tells what lies there."""
CUT_MM = 12.0
"""Around a structure that the field of the labels cuts off, nothing outside that field is known."""


@dataclass(frozen=True)
class Slices:
    """The slices of a patient and the label map that they lie in.

    Attributes:
        name: Such as ``pat0_full``.
        planes: ``(A, B, N)`` grey levels, blood near 1.
        known: Where they lie on the third axis, ascending.
        labels: ``(A, B, S)`` labels; 0 around the field of the label map.
        wall: Where the wall of the ventricles is drawn, if it is.
        field: The part of the first two axes that the label map covers.
        affine: Affine of the volume.
        crop: The patient's scan within the field, where it is at hand; blood near 1.
    """

    name: str
    planes: Array
    known: NDArray[np.intp]
    labels: NDArray[np.uint8]
    wall: NDArray[np.bool_]
    field: tuple[slice, slice]
    affine: NDArray[np.float64]
    crop: Array | None

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Extent of a voxel along each axis, in mm."""
        return np.asarray(nib.affines.voxel_sizes(self.affine))


def read_slices(patient: str, folder: str) -> Slices:
    """Read the slices of a patient from ``slices`` or ``slices_full``."""
    complete = DATA / "cropped_norm"
    maps = complete if (complete / f"{patient}_cropped_seg.nii.gz").exists() else DATA / "labels"
    reference = read_label_map(maps / f"{patient}_cropped_seg.nii.gz", HVSMR)
    with (DATA / folder / "mapping.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["patient"] == patient]
    rows.sort(key=lambda row: int(row["slice_index_axis2"]))
    known = np.array([int(row["slice_index_axis2"]) for row in rows])
    # The pictures are turned clockwise.
    pictures = [cv2.imread(str(DATA / folder / "images" / row["png"]), 0) for row in rows]
    planes = [np.rot90(picture.astype(np.float32)) for picture in pictures]
    first, second, _ = reference.voxels.shape
    if folder == "slices_full":
        low = planes[0].shape[0] - int(rows[0]["col1"]), int(rows[0]["row0"])
    else:
        low = 0, 0
        size = (second, first)
        planes = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in planes]
    shape = planes[0].shape
    around = [
        (low[0], shape[0] - first - low[0]),
        (low[1], shape[1] - second - low[1]),
        (0, 0),
    ]
    labels = np.pad(reference.voxels, around)
    wall_file = DATA / "myocardium" / f"{patient}_cropped_myocardium.nii.gz"
    wall = np.zeros(labels.shape, bool)
    if wall_file.exists():
        wall = np.pad(read_image(wall_file).voxels > 0, around) & (labels == 0)
    affine = reference.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ [*low, 0]
    scan_file = complete / f"{patient}_cropped_norm.nii.gz"
    crop = None
    if scan_file.exists() and folder == "slices_full":
        scan = np.asarray(read_image(scan_file).voxels, np.float32)
        crop = scan / np.median(scan[reference.voxels > 0])
    field = slice(low[0], low[0] + first), slice(low[1], low[1] + second)
    levelled = [
        plane / _level(plane, labels[..., k]) for plane, k in zip(planes, known, strict=True)
    ]
    name = f"{patient}_{'full' if folder == 'slices_full' else 'crop'}"
    return Slices(name, np.stack(levelled, -1), known, labels, wall, field, affine, crop)


def _level(plane: Array, labels: NDArray[np.uint8]) -> float:
    """Return the grey level of blood: each slice is scaled to its own range."""
    inner = ndimage.binary_erosion(labels > 0, iterations=2)
    if np.count_nonzero(inner) > 300:
        return float(np.median(plane[inner]))
    if np.count_nonzero(labels) > 50:
        return float(np.percentile(plane[labels > 0], 70))
    return rough_level(plane[..., np.newaxis])


def interpolate(slices: Slices, planes: Array) -> Array:
    """Interpolate between the planes that are known, and repeat the first and the last."""
    places = np.arange(slices.labels.shape[2])
    known = slices.known
    after = np.clip(np.searchsorted(known, places), 1, len(known) - 1)
    share = (places - known[after - 1]) / (known[after] - known[after - 1])
    share = np.clip(share, 0, 1).astype(np.float32)
    return planes[..., after - 1] * (1 - share) + planes[..., after] * share


def draw_between(slices: Slices, *, seed: int = 0) -> tuple[Array, NDArray[np.uint8]]:
    """Draw the gaps; return the volume and its labels, ``UNLABELLED`` where they do not count."""
    labels, known = slices.labels, slices.known
    rest = (labels == 0) & ~slices.wall
    image = np.zeros(labels.shape, np.float32)
    for mask, width, usual in ((labels > 0, 2, 1.0), (slices.wall, 2, 0.5), (rest, 3, 0.3)):
        filled = [
            _spread(slices.planes[..., n], mask[..., k], width, usual) for n, k in enumerate(known)
        ]
        image = np.where(mask, interpolate(slices, np.stack(filled, -1)), image)
    image = ndimage.gaussian_filter(image, 0.7)
    rng = np.random.default_rng(seed)
    image += np.float32(1.5 * _noise(slices)) * rng.standard_normal(image.shape, np.float32)
    places = np.arange(labels.shape[2])
    away = np.abs(places[:, np.newaxis] - known) * slices.spacing_mm[2]
    near = np.clip(1 - away.min(axis=1) / REAL_MM, 0, 1).astype(np.float32)
    image = slices.planes[..., away.argmin(axis=1)] * near + image * (1 - near)
    told = labels.copy()
    if slices.crop is not None:
        image[slices.field] = slices.crop
    else:
        beyond = BEYOND_MM / slices.spacing_mm[2]
        unknown = (places < known[0] - beyond) | (places > known[-1] + beyond)
        told[..., unknown | (away.min(axis=1) > FAR_MM)] = UNLABELLED
    outside = np.ones(labels.shape, bool)
    outside[slices.field] = False
    cut_off = (labels > 0) & ndimage.binary_dilation(outside)
    if cut_off.any():
        distance = ndimage.distance_transform_edt(~cut_off, sampling=slices.spacing_mm)
        told[outside & (distance < CUT_MM)] = UNLABELLED
    return np.maximum(image, 0), told


def _spread(plane: Array, mask: NDArray[np.bool_], width: float, usual: float) -> Array:
    """Continue what is within a mask smoothly beyond it."""
    weight, value = np.float32(1e-4), np.float32(1e-4 * usual)
    for reach, trust in ((width, 1.0), (4 * width, 0.05)):
        weight = weight + trust * ndimage.gaussian_filter(mask.astype(np.float32), reach)
        value = value + trust * ndimage.gaussian_filter(np.where(mask, plane, 0), reach)
    return np.where(mask, plane, value / weight)


def _noise(slices: Slices) -> float:
    """Return the standard deviation of noise within blood."""
    found = []
    for n, k in enumerate(slices.known):
        inner = ndimage.binary_erosion(slices.labels[..., k] > 0, iterations=3)
        plane = slices.planes[..., n]
        if inner.sum() > 500:
            found.append(np.std((plane - ndimage.gaussian_filter(plane, 1))[inner]))
    return float(np.median(found))


def write(folder: Path, patients: list[tuple[str, str]]) -> None:
    """Write scans to learn from, with the label maps that count."""
    folder.mkdir(parents=True, exist_ok=True)
    for patient, source in patients:
        slices = read_slices(patient, source)
        image, labels = draw_between(slices)
        for suffix, voxels in (("norm", image), ("seg", labels)):
            file = folder / f"{slices.name}_{suffix}.nii.gz"
            nib.save(nib.Nifti1Image(voxels, slices.affine), file)
        print(f"{slices.name}: {len(slices.known)} slices in {image.shape}", flush=True)


def print_scores(weights: str, patients: list[tuple[str, str]]) -> None:
    """Print Dice of the slices set into volumes; of a whole field also that of its crop."""
    segmenter = heartseg.load_segmenter(weights)
    print(f"{'':18s}", *(f"{s.key:>5s}" for s in HVSMR.structures if s.value), "macro whole")
    for patient, source in patients:
        slices = read_slices(patient, source)
        image = interpolate(slices, slices.planes)
        views = {"crop": image[slices.field]}
        if source == "slices_full":
            views["whole field"] = image
        for view, voxels in views.items():
            # A crop moves the first voxel; the place in space does not matter here.
            found = segmenter.segment(Volume(voxels, slices.affine, None)).labels
            found = found[slices.field] if view == "whole field" else found
            pair = [part[..., slices.known] for part in (found, slices.labels[slices.field])]
            values = score(*pair)
            shown = " ".join("    -" if np.isnan(value) else f"{value:.3f}" for value in values)
            print(f"{patient:6s} {view:11s} {shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--score", metavar="MODEL", help="a .keras file, a run, or packaged")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write scans to learn from")
    parser.add_argument("--full", nargs="*", default=["pat0", "pat1", "pat2", "pat3", "pat4"])
    parser.add_argument("--crops", nargs="*", default=["pat0", "pat10", "pat11"])
    options = parser.parse_args()
    patients = [(patient, "slices_full") for patient in options.full]
    patients += [(patient, "slices") for patient in options.crops]
    if options.write:
        write(options.write, patients)
    if options.score:
        print_scores(options.score, patients)
    if not (options.write or options.score):
        parser.error("nothing to do: give --score or --write")


if __name__ == "__main__":
    main()
