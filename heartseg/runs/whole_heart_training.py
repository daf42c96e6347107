"""Training on whole hearts: scenes drawn around label maps, real scans, and a 3D network."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, cast

import keras
import numpy as np
from numpy.typing import NDArray

from heartseg import __version__
from heartseg.cohort.leakage import PartContents
from heartseg.cohort.split_record import SplitRecord
from heartseg.cohort.training_record import TrainingRecord, record_to_json
from heartseg.config.schema import Config
from heartseg.errors import BatchError, DataError
from heartseg.labels import LabelTable
from heartseg.modelfile.description import WHOLE_HEART
from heartseg.parallel import map_cases
from heartseg.progress import Report, silent
from heartseg.runs.epoch_pictures import name_picture, write_beside
from heartseg.runs.heart_files import Part, find_parts, find_patient_split
from heartseg.runs.layout import RunLayout
from heartseg.runs.lineage import find_origin
from heartseg.runs.material import Fed
from heartseg.runs.slice_training import fill_up
from heartseg.runs.source_data import find_source
from heartseg.runs.whole_heart_kind import whole_heart_model
from heartseg.scans.fingerprint import PREFIX, fingerprint_labels, fingerprint_scan
from heartseg.scans.volume import check_same_grid, read_image, read_label_map
from heartseg.slices.batches import Share
from heartseg.synthesis.heart_dataset import HeartSources, build_fixed_dataset, build_heart_dataset
from heartseg.synthesis.rendering import Sample, Scan, frame_scan
from heartseg.synthesis.scene import SCENE_GRID, Scene
from heartseg.synthesis.sources import CLOSE_ROOM, WIDE_ROOM, lay_scan, read_scene
from heartseg.training.placement import Placement
from heartseg.training.precision import Precision

logger = logging.getLogger(__name__)

STEPS_PER_EPOCH = 250
"""Samples have no end, so an epoch is a number of steps: this, unless configured."""
NEAR_MARGIN = 0.12
"""What most scenes show beyond the box of their label map, as a fraction of the box."""
WIDE_EVERY = 3
"""Every third scene is a wide one, so that the heart is also learned in a scan of a chest."""
WIDE_GRID, WIDE_MARGIN = (40, 52, 40), 0.75
"""Wide scenes: coarser, because most of their voxels show the chest around the heart."""
FINE_MARGIN = 0.1
"""What the scenes of the second stage show beyond the box of their label map."""
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class _ReadScan:
    """A scan as samples are drawn from it, and the fingerprints of its files."""

    scan: Scan
    image_hash: str
    label_hash: str


class HeartMaterial:
    """The volumes of a split, label maps that have no image, and the whole-heart network."""

    def __init__(self, config: Config, *, report: Report = silent) -> None:
        """Find the files.

        Args:
            config: Uses ``data``, ``split``, ``synthesis``, ``model``, ``train`` and ``labels``.
            report: Told after each file that is read.

        Raises:
            DataError: If there is no split, or a case of it has no files.
        """
        self._config, self._report = config, report
        split, self._source = find_patient_split(config), find_source(config)
        self._train, self._valid = find_parts(config, self._source, split.cases)
        self._scans = {
            part: dict(zip(files.scans, self._read_scans(files), strict=True))
            for part, files in (("train", self._train), ("valid", self._valid))
        }
        self._record = self._gather_record()
        self._refuse_held_out(split)
        if not self._valid.scans:
            logger.warning(
                "no validation cases; epochs are judged by the training loss, so nothing tells "
                "when the network begins to overfit"
            )

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Kind, labels, network, training."""
        config = self._config
        described = {
            "heartseg": __version__,
            "kind": WHOLE_HEART,
            "labels": config.label_table.description,
            "network": whole_heart_model(config).model_dump(exclude={"kind"}),
            "train": {
                "loss": config.train.loss,
                "seed": config.train.seed,
                "scans": list(self._train.scans),
                "label_maps": list(self._train.label_maps),
                "valid_scans": list(self._valid.scans),
                "synthesis": config.synthesis.model_dump(mode="json", exclude={"label_maps_dir"}),
            },
            "learned_from": record_to_json(self._record),
        }
        # As it reads back from a model file: lists, not tuples.
        plain: dict[str, object] = json.loads(json.dumps(described))
        return plain

    def _gather_record(self) -> TrainingRecord:
        """Return names and hashes of all that the network learns from."""
        alone = self._train.label_maps
        hashes = self._map_all(
            partial(_fingerprint, table=self._source.table),
            list(alone.values()),
            lambda file: file.name,
        )
        train, valid = (
            PartContents(
                tuple(scans),
                case_hashes={case: read.label_hash for case, read in scans.items()},
                image_hashes={case: read.image_hash for case, read in scans.items()},
            )
            for scans in (self._scans["train"], self._scans["valid"])
        )
        joined = replace(
            train,
            cases=(*train.cases, *alone),
            case_hashes={**train.case_hashes, **dict(zip(alone, hashes, strict=True))},
        )
        origin, ancestor = find_origin(self._config.train.init)
        return TrainingRecord(joined, valid, origin=origin, ancestor=ancestor)

    def _refuse_held_out(self, split: SplitRecord) -> None:
        """Refuse a training label map that is one of a held-out case under another name.

        Raises:
            DataError: If there is one.
        """
        held = {**self._record.valid.case_hashes, **self._hash_test_cases(split)}
        names = {digest: case for case, digest in held.items()}
        for case, digest in self._record.train.case_hashes.items():
            if digest in names:
                raise DataError(
                    f"{self._train.label_files[case]}: is the label map of {names[digest]}, a "
                    "validation or test case, under another name; remove it, or a patient would "
                    "be in two parts"
                )

    def _hash_test_cases(self, split: SplitRecord) -> dict[str, str]:
        """Return the hashes of the test cases, as the split or their files tell them."""
        tests = split.cases["test"]
        known = {
            case: digest
            for case, digest in split.case_hashes.items()
            # Hashes of version 0.1 cannot be compared.
            if case in tests and digest.startswith(PREFIX)
        }
        files = self._source.label_files
        missing = {case: files[case] for case in tests if case not in known and case in files}
        read = self._map_all(
            partial(_fingerprint, table=self._source.table),
            list(missing.values()),
            lambda file: file.name,
        )
        return {**known, **dict(zip(missing, read, strict=True))}

    @property
    def names(self) -> list[list[str]]:
        """What the processes of one training must agree on."""
        return [list(self._train.scans), list(self._train.label_maps), list(self._valid.scans)]

    def check_memory(self, precision: Precision) -> None:
        """Nothing is refused ahead: a sample of the usual grid takes about 2 GB."""

    def feed(self, placement: Placement, *, first_epoch: int) -> Fed:
        """Read the scans, draw the scenes, and return the batches, from an epoch on."""
        config, train = self._config, self._config.train
        table, grid = config.label_table, whole_heart_model(config).grid
        share = Share(placement.process_index, placement.num_processes)
        steps = train.steps_per_epoch or STEPS_PER_EPOCH
        learned = build_heart_dataset(
            HeartSources(
                self.draw_scenes(),
                [read.scan for read in self._scans["train"].values()],
                config.synthesis.scan_share,
                config.synthesis.mirror_share,
            ),
            grid,
            num_classes=table.num_classes,
            steps_per_epoch=steps,
            batch_size=train.batch_size * placement.num_replicas,
            seed=train.seed,
            first_epoch=first_epoch,
            share=share,
        )
        if not self._valid.scans:
            return Fed(learned, None, steps)
        framed = fill_up(self._frame(self._scans["valid"]), placement.num_replicas)
        valid = build_fixed_dataset(framed, batch_size=placement.num_replicas, share=share)
        return Fed(learned, valid, steps)

    def watch(self, placement: Placement) -> "_EpochInference":
        """Return what segments the middle slices of a few hearts after each epoch."""
        scans = self._scans["valid"] or self._scans["train"]
        chosen = dict(islice(scans.items(), self._config.train.num_infer_images))
        samples = dict(zip(chosen, self._frame(chosen), strict=True))
        return _EpochInference(self._config, samples, placement)

    def draw_scenes(self, grid: tuple[int, int, int] | None = None) -> list[Scene]:
        """Draw scenes around the label maps of the training part.

        Args:
            grid: Voxels of each scene; None: those of the first stage, some of which are wide.
        """
        config, train = self._config, self._train
        if config.synthesis.scan_share == 1:
            return []
        items = [
            (file, number, variant)
            for number, file in enumerate(train.label_files.values())
            for variant in range(config.synthesis.scenes_per_label_map)
        ]
        draw = partial(_draw_scene, table=self._source.table, seed=config.train.seed, grid=grid)
        scenes = self._map_all(draw, items, lambda item: f"scene of {item[0].name}")
        # A label map that is drawn in part gives none.
        return [scene for scene in scenes if scene is not None]

    def lay_scans(self, part: str, grid: tuple[int, int, int]) -> list[Scan]:
        """Return the scans of the part ``train`` or ``valid`` as the second stage sees them.

        Args:
            part: The part.
            grid: Voxels of the box around a heart.
        """
        files = self._train if part == "train" else self._valid
        return [read.scan for read in self._read_scans(files, grid, room=CLOSE_ROOM)]

    def _read_scans(
        self, part: Part, grid: tuple[int, int, int] = SCENE_GRID, *, room: float = WIDE_ROOM
    ) -> list[_ReadScan]:
        read = partial(_read_files, table=self._source.table, grid=grid, room=room)
        return self._map_all(read, list(part.scans.values()), lambda files: files[0].name)

    def _frame(self, scans: Mapping[str, _ReadScan]) -> list[Sample]:
        config = self._config
        num_classes, grid = config.label_table.num_classes, whole_heart_model(config).grid
        return [frame_scan(read.scan, grid, num_classes=num_classes) for read in scans.values()]

    def _map_all(
        self,
        work: Callable[[Item], Result],
        items: Sequence[Item],
        describe: Callable[[Item], str],
    ) -> list[Result]:
        """Do the work for each item in parallel.

        Raises:
            BatchError: If any of them fails: what a network learned from must be known.
        """
        jobs = self._config.parallel.jobs
        outcomes = map_cases(work, items, jobs=jobs, report=self._report, describe=describe)
        problems = [outcome.problem for outcome in outcomes if outcome.problem is not None]
        if problems:
            raise BatchError(f"{len(problems)} of {len(items)} volumes cannot be used", problems)
        return [cast(Result, outcome.result) for outcome in outcomes]


def _draw_scene(
    item: tuple[Path, int, int],
    *,
    table: LabelTable,
    seed: int,
    grid: tuple[int, int, int] | None,
) -> Scene | None:
    file, number, variant = item
    if grid is not None:
        fine = (seed, number, variant, 1)
        return read_scene(file, table, seed=fine, grid=grid, margin=FINE_MARGIN)
    is_wide = (number + variant) % WIDE_EVERY == WIDE_EVERY - 1
    return read_scene(
        file,
        table,
        seed=(seed, number, variant),
        grid=WIDE_GRID if is_wide else SCENE_GRID,
        margin=WIDE_MARGIN if is_wide else NEAR_MARGIN,
    )


def _read_files(
    files: tuple[Path, Path], *, table: LabelTable, grid: tuple[int, int, int], room: float
) -> _ReadScan:
    image_file, label_file = files
    image = read_image(image_file)
    labels = read_label_map(label_file, table, partial=True, from_source=True)
    check_same_grid(image, labels, names=(str(image_file), str(label_file)))
    scan = lay_scan(image, labels, num_classes=table.num_classes, grid=grid, room=room)
    return _ReadScan(scan, fingerprint_scan(image), fingerprint_labels(labels))


def _fingerprint(label_file: Path, *, table: LabelTable) -> str:
    return fingerprint_labels(read_label_map(label_file, table, partial=True, from_source=True))


class _EpochInference:
    """Segment a few hearts after each epoch, to see the masks change.

    Writes ``epoch_change_infer/Epoch_NNN_CASE.png``, the sagittal slice with the most foreground
    and its mask side by side, and ``Reference_CASE.png`` once.
    """

    def __init__(self, config: Config, samples: Mapping[str, Sample], placement: Placement) -> None:
        self._placement, self._samples = placement, samples
        self._folder, self._table = RunLayout(config.run_dir).epoch_change_infer, config.label_table
        for name, sample in samples.items():
            self._write(name_picture(self._folder, name), sample, sample.shares)

    def __call__(self, epoch: int, model: keras.Model) -> None:
        """Write the pictures of one epoch."""
        for name, sample in self._samples.items():
            scores = self._placement.predict(model, sample.image[np.newaxis])[0]
            self._write(name_picture(self._folder, name, epoch), sample, scores)

    def _write(self, file: Path, sample: Sample, scores: NDArray[np.floating]) -> None:
        fullest = int(sample.shares[..., 1:].sum(axis=(0, 1, 3)).argmax())
        labels = scores[:, :, fullest].argmax(axis=-1).astype(np.uint8)
        # Blood is near 1; fat and contrast may be brighter.
        gray = (np.clip(sample.image[:, :, fullest, 0], 0, 1) * 255).astype(np.uint8)
        write_beside(file, _to_picture(gray), _to_picture(labels), self._table)


def _to_picture(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Show a sagittal plane of the network's grid: superior is up, anterior is right."""
    return np.kron(plane.T[:, ::-1], np.ones((4, 4), np.uint8))
