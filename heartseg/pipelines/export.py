"""``heartseg export``: a model in a format that other programs run, compared with Keras."""

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heartseg import __version__
from heartseg.config.schema import Config
from heartseg.errors import ConfigError, DataError, ModelError
from heartseg.inference.engine import Compute
from heartseg.inference.views import View, ViewedScan, describe_views
from heartseg.modelfile.checkpoint import read_metadata
from heartseg.modelfile.description import (
    SECOND_STAGE,
    WHOLE_HEART,
    ModelDescription,
    SecondStage,
)
from heartseg.modelfile.onnx_file import find_second_file
from heartseg.modelfile.packaged import LICENCE, describe_packaged
from heartseg.progress import Report, silent
from heartseg.runs.engines import load_graph, load_keras, load_network
from heartseg.runs.layout import RunLayout
from heartseg.runs.trained import describe_applied
from heartseg.scans.reading import read_scan
from heartseg.scans.volume import Volume, build_volume
from heartseg.slices.recipe import PreparedVolume, to_network_input
from heartseg.surroundings import check_backend
from heartseg.synthesis.phantom import make_phantom

if TYPE_CHECKING:
    from heartseg.inference.exports import Format, Network

MOST_DIFFERENT = 1e-4
"""Fraction of voxels whose label may differ from Keras's."""
MOST_SLICES = 8
"""Slices of a scan that are compared."""
PHANTOM_SIZE = 96


@dataclass(frozen=True)
class ExportResult:
    """What was exported.

    Attributes:
        file: The file, or the folder of a SavedModel.
        voxels: Voxels (of slices: pixels) whose labels were compared with Keras's.
        different: Those whose label differs.
        second_file: The same of the second stage; None: the model has one stage.
    """

    file: Path
    voxels: int
    different: int
    second_file: Path | None = None


def run_export(
    config: Config | None,
    *,
    format_name: str,
    output: Path,
    scan_file: Path | None = None,
    licence: str | None = None,
    overwrite: bool = False,
    report: Report = silent,
) -> ExportResult:
    """Write a model as a portable file, and compare it with Keras before it gets its name.

    Args:
        config: Names the run whose best model is exported, and says whether its second stage is
            too (``infer.second_stage``); None: the packaged model.
        format_name: A name of ``FORMATS``.
        output: The file to write; of a SavedModel its folder.
        scan_file: The scan on which the labels are compared; None: a phantom.
        licence: What the file says of the licence of its weights; None: what is known.
        overwrite: Replace an earlier export.
        report: Called before each step with (steps done, steps, what comes).

    Raises:
        ConfigError: If the name of the output does not fit the format, or the model would ignore a
            setting of the section ``infer``.
        DataError: If the output exists already and ``overwrite`` is not set, or cannot be written.
        ModelError: If the model cannot be exported, or the export gives other labels.
    """
    check_backend()
    from heartseg.inference.exports import FORMATS, remove_export

    form = FORMATS[format_name]
    model_file = None if config is None else RunLayout(config.run_dir).require_best()
    config = config or Config()
    described = describe_applied(model_file, config)
    stage = described.second_stage
    outputs = [output] if stage is None else [output, find_second_file(output)]
    targets = _check_outputs(form, format_name, outputs, overwrite=overwrite)
    scan = _read_phantom() if scan_file is None else read_scan(scan_file)
    report(0, 3, "loading the model")
    first = _load_network(model_file, described, config)
    images = sample_images(scan, described)
    metadata = _gather_metadata(model_file, described, licence)
    with tempfile.TemporaryDirectory(prefix=".heartseg_export_", dir=_folder_of(output)) as folder:
        drafts = [Path(folder) / file.name for file in outputs]
        report(1, 3, f"writing {output.name}")
        if stage is not None:
            second = _load_second(model_file)
            form.write(drafts[1], second, {**metadata, "kind": SECOND_STAGE})
            metadata = _name_second(metadata, stage, drafts[1])
        form.write(drafts[0], first, metadata)
        report(2, 3, "comparing the export with Keras")
        voxels, different = _compare(form.start(drafts[0]), first, images, output)
        if stage is not None:
            patches = _sample_patch(scan, described, first)
            more = _compare(form.start(drafts[1]), second, patches, outputs[1])
            voxels, different = voxels + more[0], different + more[1]
        for target in targets:
            remove_export(target)
            shutil.move(Path(folder) / target.name, target)
    report(3, 3, "done")
    return ExportResult(output, voxels, different, outputs[1] if stage is not None else None)


def sample_images(scan: Volume, described: ModelDescription) -> NDArray[np.float32]:
    """Return what a network sees of a scan: one view of a volume, or slices from its middle.

    Args:
        scan: The scan.
        described: What the network was trained for.

    Returns:
        ``(1, *grid, 1)``, or ``(B, H, W, C)`` images.
    """
    if described.kind == WHOLE_HEART:
        from heartseg.scans.axes import to_trained_axes

        def unused(images: NDArray[np.float32]) -> NDArray[np.float32]:
            return images

        turned = to_trained_axes(scan.voxels, scan.affine)
        viewed = ViewedScan(unused, turned, described.grid, described.table.num_classes)
        return viewed.image(View())[np.newaxis, ..., np.newaxis]
    slices = PreparedVolume(scan, described.recipe)
    first = max(0, (len(slices) - MOST_SLICES) // 2)
    chosen = islice(slices.stacks(), first, first + MOST_SLICES)
    return to_network_input(np.stack(list(chosen)), described.recipe.channels)


def _sample_patch(
    scan: Volume, described: ModelDescription, first: "Network"
) -> NDArray[np.float32]:
    """Return what the second stage sees of a scan: the patch that holds most of the heart."""
    from heartseg.inference.correction import cut_patch, find_patches
    from heartseg.scans.axes import to_trained_axes

    if described.second_stage is None:
        raise ValueError("expected a model of two stages")
    stage = described.second_stage

    def predict(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(first.model.predict_on_batch(images))

    turned = to_trained_axes(scan.voxels, scan.affine)
    viewed = ViewedScan(predict, turned, described.grid, described.table.num_classes)
    close, found = viewed.close_up(View(), stage.grid), viewed.probabilities(View())
    patches = [cut_patch(stage, patch, close, found) for patch in find_patches(stage)]
    return max(patches, key=lambda seen: float(seen[..., 2:].sum()))


def _check_outputs(
    form: "Format", name: str, outputs: Sequence[Path], *, overwrite: bool
) -> list[Path]:
    """Return all files that the export has.

    Raises:
        ConfigError: If the output's name does not fit the format.
        DataError: If one exists already.
    """
    output = outputs[0]
    if form.suffix and output.suffix != form.suffix:
        raise ConfigError(
            f"--output {output}: expected a file whose name ends in {form.suffix}, for --format "
            f"{name}"
        )
    targets = list(outputs)
    if form.companion:
        targets += [file.with_suffix(form.companion) for file in outputs]
    for target in targets:
        if target.exists() and not overwrite:
            raise DataError(
                f"{target}: already exists; choose another --output, or replace it with --overwrite"
            )
        if form.suffix and target.is_dir():
            raise DataError(f"{target}: is a folder; expected the name of a file")
    return targets


def _folder_of(output: Path) -> Path:
    output.parent.mkdir(parents=True, exist_ok=True)
    return output.parent


def _read_phantom() -> Volume:
    phantom = make_phantom(7, 0, size=PHANTOM_SIZE)
    return build_volume(phantom.image.astype(np.float32), phantom.affine)


def _load_network(
    model_file: Path | None, described: ModelDescription, config: Config
) -> "Network":
    from heartseg.inference.exports import Network
    from heartseg.inference.network import as_float32

    alone = described.without_second_stage()
    return Network(load_graph(model_file), as_float32(load_keras(model_file, alone, config)[0]))


def _load_second(model_file: Path | None) -> "Network":
    from heartseg.inference.exports import Network
    from heartseg.inference.network import as_float32

    graph = load_graph(model_file, second_stage=True)
    return Network(graph, as_float32(load_network(model_file, second_stage=True)))


def _name_second(metadata: Mapping[str, Any], stage: SecondStage, draft: Path) -> Mapping[str, Any]:
    """Return metadata that also says how the second stage is applied, and which file holds it."""
    from heartseg.inference.correction import find_overlap

    known = {**metadata["second_stage"], "overlap": find_overlap(stage), "file": draft.name}
    if draft.is_file():
        known["sha256"] = hashlib.sha256(draft.read_bytes()).hexdigest()
    return {**metadata, "second_stage": known}


def _gather_metadata(
    model_file: Path | None, described: ModelDescription, licence: str | None
) -> Mapping[str, Any]:
    known = describe_packaged().metadata if model_file is None else read_metadata(model_file)
    if described.second_stage is None:
        known = {key: value for key, value in known.items() if key != SECOND_STAGE}
    usual = LICENCE if model_file is None else "not stated"
    seen = {"views": describe_views()} if described.kind == WHOLE_HEART else {}
    return {
        "kind": described.kind,
        **known,
        **seen,
        "identity": described.identity,
        "licence": licence or usual,
        "exported_by": f"heartseg {__version__}",
    }


def _compare(
    compute: Compute, network: "Network", images: NDArray[np.float32], output: Path
) -> tuple[int, int]:
    """Return how many voxels were compared with Keras, and how many get another label.

    Raises:
        ModelError: If too many do.
    """
    expected = np.asarray(network.model.predict_on_batch(images)).argmax(axis=-1)
    different = int((compute(images).argmax(axis=-1) != expected).sum())
    if different > MOST_DIFFERENT * expected.size:
        raise ModelError(
            f"{output}: was not written: its labels differ from Keras's on {different:,} of "
            f"{expected.size:,} voxels, more than {MOST_DIFFERENT:.2%}"
        )
    return int(expected.size), different
