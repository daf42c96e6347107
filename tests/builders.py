"""Small inputs for tests: anisotropic volumes with three distinct axis lengths, slices, files."""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import nibabel
import numpy as np
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    ornt_transform,
)

from heartseg.config.schema import Config
from heartseg.labels import HVSMR
from heartseg.slices.store import write_color, write_gray

SHAPE = (14, 11, 9)
SPACING_MM = (0.8, 1.5, 1.1)


@dataclass(frozen=True)
class Scan:
    """An image, its label map and their affine."""

    image: np.ndarray
    labels: np.ndarray
    affine: np.ndarray

    def turned(self, axes: str) -> "Scan":
        """Return the same anatomy stored along other axes, such as ``LPS``."""
        now = nibabel.orientations.io_orientation(self.affine)
        turn = ornt_transform(now, axcodes2ornt(tuple(axes)))
        return Scan(
            np.ascontiguousarray(apply_orientation(self.image, turn)),
            np.ascontiguousarray(apply_orientation(self.labels, turn)),
            self.affine @ inv_ornt_aff(turn, self.image.shape),
        )


def make_affine(axes="PIR", spacing_mm=SPACING_MM, origin_mm=(-20.0, 35.0, 10.0)):
    """Return the affine of an array whose axes run toward the given sides of the patient."""
    affine = np.eye(4)
    affine[:3, 3] = origin_mm
    for column, (side, spacing) in enumerate(zip(axes, spacing_mm, strict=True)):
        row = next(i for i, pair in enumerate(("LR", "PA", "IS")) if side in pair)
        affine[row, row] = 0
        affine[row, column] = spacing if side in "RAS" else -spacing
    return affine


def rotate(affine, degrees=(10.0, -7.0, 4.0)):
    """Turn an affine about the three world axes: an oblique scan."""
    turn = np.eye(4)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        step = np.eye(4)
        i, j = [k for k in range(3) if k != axis]
        step[[i, j], [i, j]] = np.cos(angle)
        step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
        turn = step @ turn
    return turn @ affine


def make_scan(shape=SHAPE, *, axes="PIR", spacing_mm=SPACING_MM, seed=0, num_classes=9):
    """Return a scan with every label in a ball, background around it, and a smooth image."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"), axis=-1)
    centers = rng.uniform(-0.5, 0.5, (num_classes - 1, 3))
    nearest = np.linalg.norm(grid[..., np.newaxis, :] - centers, axis=-1).argmin(axis=-1) + 1
    labels = np.where(np.linalg.norm(grid, axis=-1) < 0.85, nearest, 0).astype(np.int16)
    image = 0.5 + 0.5 * np.sin(3 * grid @ rng.uniform(0.5, 2, 3)) + rng.normal(0, 0.05, shape)
    return Scan(image, labels, make_affine(axes, spacing_mm))


def write_nifti(file, voxels, affine, **header):
    """Write an array with nibabel alone, without the code under test."""
    image = nibabel.Nifti1Image(voxels, affine, dtype=voxels.dtype)
    for key, value in header.items():
        image.header[key] = value
    file.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, file)
    return file


def write_case(folder: Path, name: str, scan: Scan, suffix=".nii.gz") -> tuple[Path, Path]:
    """Write the image and the label map of a case under the file names of the data set."""
    return (
        write_nifti(folder / f"{name}_cropped_norm{suffix}", scan.image, scan.affine),
        write_nifti(folder / f"{name}_cropped_seg{suffix}", scan.labels, scan.affine),
    )


def write_slices(
    part_dir: Path, names: Sequence[str], size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Write slices of grey level 0, 10, 20, ... with masks of random labels; return the labels."""
    rng = np.random.default_rng(0)
    labels = {}
    for number, name in enumerate(names):
        labels[name] = rng.integers(0, 9, size, np.uint8)
        write_gray(part_dir / "images" / f"{name}.png", np.full(size, 10 * number, np.uint8))
        write_color(part_dir / "masks" / f"{name}.png", HVSMR.colorize(labels[name]))
    return labels


def make_config(folder: Path, sections: Mapping[str, Mapping[str, Any]] | None = None) -> Config:
    """Return a configuration whose folders lie in ``folder`` and whose slices are 32 x 24."""
    values: dict[str, Any] = {
        "run_dir": folder / "run",
        "data": {
            "source_dir": folder / "volumes",
            "master_dir": folder / "master",
            "dataset_dir": folder / "dataset",
        },
        "prepare": {"image_width": 24, "image_height": 32},
        "model": {"num_layers": 3},
        "parallel": {"jobs": 1},
    }
    for section, settings in (sections or {}).items():
        values[section] = {**values.get(section, {}), **settings}
    return Config.model_validate(values)


def make_heart_config(
    source_dir: Path, run_dir: Path, *layers: Mapping[str, Mapping[str, Any]]
) -> Config:
    """Return a configuration that trains a tiny network of whole hearts on volumes.

    Args:
        source_dir: The volumes.
        run_dir: The run; the split is beside it.
        layers: Settings by section that are added or win; later layers win over earlier ones.
    """
    values: dict[str, Any] = {
        "run_dir": str(run_dir),
        "data": {"source_dir": str(source_dir), "dataset_dir": str(run_dir.parent / "dataset")},
        "model": {"kind": "whole_heart", "grid": [16, 16, 16], "filters": [8, 8]},
        "synthesis": {"scenes_per_label_map": 1, "scan_share": 0.5},
        "train": {
            "batch_size": 1,
            "loss": "dice_crossentropy",
            "metrics": [],
            "learning_rate": 0.01,
            "clipvalue": 0,
            "clipnorm": 1,
            "schedule": "cosine",
            "precision": "float32",
            "deterministic": True,
            "tensorboard": False,
        },
        "parallel": {"jobs": 1},
    }
    for layer in layers:
        for section, settings in layer.items():
            values[section] = {**values.get(section, {}), **settings}
    return Config.model_validate(values)


def read_tree(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder, by its path."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def list_visible(folder):
    """Name what a user sees in a folder: everything but the record of what heartseg made."""
    return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))


@contextmanager
def full_disk(file_name: str) -> Iterator[None]:
    """Let the disk be full when a file of this name is to be written."""
    replace = Path.replace

    def fail(source, target):
        if Path(target).name == file_name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace(source, target)

    with mock.patch.object(Path, "replace", fail):
        yield
