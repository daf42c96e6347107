"""Which predicted label map belongs to which reference: paired by case name."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from heartseg.cohort.inputs import DRAWN, SUGGESTED, find_copies, split_dicom
from heartseg.errors import DataError
from heartseg.files import image_stem, list_files, logging_once, natural_key
from heartseg.scans.reading import LABEL_MAP_SUFFIXES

logger = logging.getLogger(__name__)

ENDPOINTS = "_endpoints"
LABELS = "_seg"
SEGMENTATION = ".seg"
"""Before the ending of a segmentation: ``pat4.seg.nrrd`` of 3D Slicer, ``pat4.seg.dcm``."""
TOOL_SUFFIXES = (ENDPOINTS, LABELS, SEGMENTATION, "_0000", "_cropped", "_norm")
"""What tools put behind a case name, beside the suffixes of the configuration."""
_NO_MAPS = f"expected label maps ({', '.join(LABEL_MAP_SUFFIXES)}), found none"


@dataclass(frozen=True)
class Suffixes:
    """What follows the case name in the files of the configured data set.

    Attributes:
        image: Of a scan.
        labels: Of a label map.
        endpoints: Of an endpoint map.
        masks: Of the masks of one structure each.
    """

    image: str
    labels: str
    endpoints: str
    masks: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Every suffix that a case name may have, the longest first."""
        known = {self.image, self.labels, self.endpoints, *TOOL_SUFFIXES} - {""}
        return tuple(sorted(known, key=lambda suffix: (-len(suffix), suffix)))


@dataclass(frozen=True)
class CaseMaps:
    """The files of one case that is to be scored.

    Attributes:
        case: Its name.
        prediction: The predicted label map; None counts as missed.
        reference: The true label map.
        endpoints: The endpoint map, if there is one.
        image: The scan, where it lies beside the reference.
    """

    case: str
    prediction: Path | None
    reference: Path
    endpoints: Path | None = None
    image: Path | None = None


@dataclass(frozen=True)
class Pairing:
    """What was found in the folders of an evaluation.

    Attributes:
        cases: The cases that have a reference, in natural order.
        unpaired: Names of cases that have a prediction only.
        left_out: Files that are no label map of their case, though they lie there.
        problems: Cases that cannot be scored, with the reason.
    """

    cases: tuple[CaseMaps, ...]
    unpaired: tuple[str, ...] = ()
    left_out: tuple[Path, ...] = ()
    problems: tuple[str, ...] = field(default=())


@logging_once()
def pair_label_maps(
    predictions_dir: Path,
    references_dir: Path,
    endpoints_dir: Path | None,
    suffixes: Suffixes,
) -> Pairing:
    """Pair the label maps of two folders by case.

    What ``infer``, ``suggest`` and ``refine`` write of a part of a case (``pat4_LV.nii.gz``,
    ``pat4_suggested.nii.gz``) is passed over, unless the other folder has a file of this name.

    Args:
        predictions_dir: Folder of the predicted label maps.
        references_dir: Folder of the true label maps; scans and endpoint maps may lie there too.
        endpoints_dir: Folder of the endpoint maps, if they are to be used.
        suffixes: How the files of the data set are named.

    Raises:
        DataError: If a folder is missing or holds no label map, or no prediction has a reference.
    """
    references = _choose(references_dir, suffixes)
    predictions = _choose(predictions_dir, suffixes)
    zones = _Chosen({}) if endpoints_dir is None else _choose_endpoints(endpoints_dir, suffixes)
    if not references.files.keys() & predictions.files.keys():
        raise DataError(
            _describe_mismatch(predictions_dir, references_dir, predictions, references)
        )
    known = {*references.cases, *predictions.cases}
    _pass_over_parts(predictions_dir, predictions, references.cases, known, suffixes)
    _pass_over_parts(references_dir, references, predictions.cases, known, suffixes)
    ambiguous = {*references.ambiguous, *predictions.ambiguous, *zones.ambiguous}
    cases = tuple(
        CaseMaps(
            case,
            predictions.files.get(case),
            reference,
            zones.files.get(case),
            references.images.get(case),
        )
        for case, reference in references.files.items()
        # Which of several files is meant cannot be known.
        if case not in ambiguous
    )
    return Pairing(
        cases,
        unpaired=tuple(case for case in predictions.files if case not in references.cases),
        left_out=tuple(predictions.left_out),
        problems=tuple(
            problem
            for found in (references, predictions, zones)
            for problem in found.ambiguous.values()
        ),
    )


def case_name(file: Path, suffixes: Sequence[str]) -> str:
    """Return a file's case name: its stem without any of the suffixes, the longest first.

    ``pat4.nii.gz``, ``pat4_cropped_seg.nii.gz`` and ``pat4_0000_seg.nii.gz`` are all of ``pat4``,
    given the suffixes of the data set and of tools. Capital letters do not matter.
    """
    name = image_stem(file)
    ordered = sorted(filter(None, suffixes), key=len, reverse=True)
    while True:
        suffix = next((s for s in ordered if _ends(name, s) and len(name) > len(s)), None)
        if suffix is None:
            return name
        name = name[: -len(suffix)]


@dataclass
class _Chosen:
    """One file per case of a folder.

    Attributes:
        files: The label map of each case, in natural order of the names.
        images: The scan of each case that has one beside its label map.
        ambiguous: For cases with several label maps, what is wrong.
        left_out: Files that are no label maps, though they lie there.
    """

    files: dict[str, Path]
    images: dict[str, Path] = field(default_factory=dict)
    ambiguous: dict[str, str] = field(default_factory=dict)
    left_out: list[Path] = field(default_factory=list)

    @property
    def cases(self) -> set[str]:
        """Names of all cases of the folder."""
        return {*self.files, *self.ambiguous}


def _pass_over_parts(
    folder: Path, found: _Chosen, partners: set[str], known: set[str], suffixes: Suffixes
) -> None:
    """Leave out what holds a part of a known case and has no partner; log it."""
    endings = (SUGGESTED, DRAWN, *suffixes.masks)

    def is_part(name: str) -> bool:
        wholes = (name.removesuffix(ending) for ending in endings if name.endswith(ending))
        return any(case_name(Path(f"{whole}.nii"), suffixes.all) in known for whole in wholes)

    parts = [name for name in found.files if name not in partners and is_part(name)]
    if parts:
        names = ", ".join(found.files.pop(name).name for name in parts)
        logger.info("%s: skipped, since they hold a part of a case: %s", folder, names)


def _choose(folder: Path, suffixes: Suffixes) -> _Chosen:
    """Choose the label map of each case.

    A name that ends like a label map wins over one without such an ending, and that over one that
    ends like a scan: a folder may hold scans beside their label maps, and label maps may be named
    after the scan.
    """
    endpoints = (suffixes.endpoints or ENDPOINTS, ENDPOINTS)
    ranked: dict[str, dict[int, list[Path]]] = {}
    files = _list_maps(folder)
    copies = find_copies(files)
    for file in files:
        if file in copies:
            continue
        stem = image_stem(file)
        if _ends(stem, *endpoints):
            continue
        rank = 0 if _ends(stem, suffixes.labels or LABELS, LABELS, SEGMENTATION) else 1
        rank = 2 if rank and suffixes.image and _ends(stem, suffixes.image) else rank
        ranked.setdefault(case_name(file, suffixes.all), {}).setdefault(rank, []).append(file)
    chosen = _Chosen({}, left_out=copies)
    for case in sorted(ranked, key=natural_key):
        best, *others = (files for _, files in sorted(ranked[case].items()))
        rest = [file for files in others for file in files]
        if len(best) > 1:
            names = ", ".join(file.name for file in best)
            chosen.ambiguous[case] = f"{folder}: several files are of the case {case}: {names}"
            continue
        chosen.files[case] = best[0]
        if rest:
            chosen.images[case] = rest[0]
        chosen.left_out += rest
    if not chosen.files and not chosen.ambiguous:
        raise DataError(f"{folder}: {_NO_MAPS}")
    return chosen


def _choose_endpoints(folder: Path, suffixes: Suffixes) -> _Chosen:
    files = _list_maps(folder)
    named = [f for f in files if _ends(image_stem(f), suffixes.endpoints or ENDPOINTS, ENDPOINTS)]
    found: dict[str, list[Path]] = {}
    for file in named or files:
        found.setdefault(case_name(file, suffixes.all), []).append(file)
    chosen = _Chosen({})
    for case, several in found.items():
        if len(several) > 1:
            names = ", ".join(file.name for file in several)
            chosen.ambiguous[case] = f"{folder}: several files are of the case {case}: {names}"
        else:
            chosen.files[case] = several[0]
    return chosen


def _list_maps(folder: Path) -> list[Path]:
    files, _images = split_dicom(list_files(folder, LABEL_MAP_SUFFIXES))
    if not files:
        raise DataError(f"{folder}: {_NO_MAPS}")
    return files


def _ends(name: str, *suffixes: str) -> bool:
    return name.casefold().endswith(tuple(suffix.casefold() for suffix in suffixes if suffix))


def _describe_mismatch(
    predictions_dir: Path, references_dir: Path, predictions: _Chosen, references: _Chosen
) -> str:
    def some(files: Mapping[str, Path]) -> str:
        shown = [f"{file.name} (case {case})" for case, file in list(files.items())[:3]]
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        return ", ".join(shown) + more

    return (
        f"{predictions_dir}: no prediction has a reference in {references_dir}. Files are paired "
        f"by case name; found predictions {some(predictions.files)}, and references "
        f"{some(references.files)}. Rename them, or set data.label_suffix and data.image_suffix "
        "to what follows the case name"
    )
