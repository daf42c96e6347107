"""The label maps of one case, of any format, read onto one grid so that they can be compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from heartseg.errors import DataError
from heartseg.exchange.grids import share_grid
from heartseg.exchange.label_maps import may_be_cut, read_labels
from heartseg.labels import LabelTable
from heartseg.scans.fingerprint import fingerprint_labels
from heartseg.scans.nearest import resample_labels
from heartseg.scans.volume import Volume, is_same_grid


@dataclass(frozen=True, eq=False)
class AlignedMaps:
    """The label maps of a case on one grid.

    Attributes:
        reference: The true one.
        prediction: The predicted one; None if there is none.
        endpoints: The endpoint map, if there is one.
        reference_hash: Fingerprint of the reference as it is stored.
    """

    reference: Volume
    prediction: Volume | None
    endpoints: Volume | None
    reference_hash: str


def read_aligned(
    reference: Path,
    prediction: Path | None,
    endpoints: Path | None,
    table: LabelTable,
    *,
    mapping: Mapping[int, int] | None = None,
    resample: bool = False,
) -> AlignedMaps:
    """Read the label maps of a case, and bring them onto the grid of the reference.

    If one of them is cut to what is labelled, as segmentations are, it is the smallest grid that
    holds all of them.

    Args:
        reference: File of the true label map.
        prediction: File of the predicted one; None if there is none.
        endpoints: File of the endpoint map; None if there is none.
        table: The labels that may occur.
        mapping: Label of the table by label of the prediction; labels that are not named stay.
        resample: Bring a prediction and endpoint map on another grid to that of the reference
            (nearest neighbour) rather than refuse them.

    Raises:
        DataError: If a file cannot be read, or lies on another grid.
    """
    files, maps = [reference], [read_labels(reference, table)]
    if prediction is not None:
        files.append(prediction)
        maps.append(read_labels(prediction, table, mapping=mapping))
    if endpoints is not None:
        files.append(endpoints)
        maps.append(read_labels(endpoints, table))
    digest = fingerprint_labels(maps[0])
    if any(map(may_be_cut, files)) and not all(is_same_grid(m, maps[0]) for m in maps):
        maps = _share_grid(files, maps, resample=resample)
    true = maps[0]
    placed = [
        _place(labels, true, names=(file, reference), resample=resample)
        for file, labels in zip(files[1:], maps[1:], strict=True)
    ]
    return AlignedMaps(
        true,
        None if prediction is None else placed[0],
        None if endpoints is None else placed[-1],
        digest,
    )


def _share_grid(files: Sequence[Path], maps: list[Volume], *, resample: bool) -> list[Volume]:
    """Bring label maps onto one grid, unless they are to be resampled, which comes later."""
    try:
        return share_grid(maps, sources=[str(file) for file in files])
    except DataError as error:
        if not resample:
            raise
        if may_be_cut(files[0]):
            # Resampled onto a part of the scan, a prediction would lose what lies outside of it.
            raise DataError(
                f"{files[0]}: holds the labelled part of its scan only, so that nothing can be "
                "resampled onto it; save it as NIfTI on the grid of the scan"
            ) from error
        return maps


def _place(
    labels: Volume, reference: Volume, *, names: tuple[Path, Path], resample: bool
) -> Volume:
    if is_same_grid(labels, reference):
        return labels
    if not resample:
        raise DataError(
            f"{names[0]}: lies on another grid than {names[1]}:\n"
            f"    {_describe_grid(labels)}\n    {_describe_grid(reference)}\n"
            "    pass --resample to bring it there by nearest neighbour"
        )
    voxels = resample_labels(
        labels.voxels, labels.affine, to_affine=reference.affine, shape=reference.voxels.shape
    )
    return Volume(voxels, reference.affine, labels.header)


def _describe_grid(volume: Volume) -> str:
    rows = [[round(float(value), 4) for value in row] for row in volume.affine[:3]]
    return f"shape {volume.voxels.shape}, affine {rows}"
