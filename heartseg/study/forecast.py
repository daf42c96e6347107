"""``heartseg study --dry-run``: what a study would do, and what it would take."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from heartseg.cohort.cases import CaseFiles
from heartseg.cohort.partition import draw_folds
from heartseg.cohort.split_record import SPLIT, read_split_record
from heartseg.config.schema import Config
from heartseg.files import natural_key
from heartseg.modelfile.description import WHOLE_HEART
from heartseg.networks.memory import available_bytes
from heartseg.plurals import counted
from heartseg.runs.source_data import find_source
from heartseg.runs.step_cost import StepCost, measure_step
from heartseg.scans.geometry import SliceLayout
from heartseg.scans.volume import read_image
from heartseg.slices.manifest import MANIFEST, read_manifest
from heartseg.study.plan import Study, check_same_study, is_split, plan_study
from heartseg.study.progress import FoldProgress, format_duration, look_at
from heartseg.study.workers import find_places

WEIGHT_BYTES = 4
STATE_COPIES = 3
"""The state of a training holds the weights and two moments of Adam."""


@dataclass(frozen=True)
class _Data:
    """What there is to learn from.

    Attributes:
        parts: Cases by part, one entry per fold.
        slices: Number of slices by case; an upper bound where they are not prepared.
        is_prepared: Whether the slices are on disk.
        label_bytes: Size of the label maps on disk.
    """

    parts: list[Mapping[str, tuple[str, ...]]]
    slices: Mapping[str, int]
    is_prepared: bool
    label_bytes: int

    def count(self, number: int, part: str) -> int:
        """Return the slices of a part of a fold."""
        return sum(self.slices.get(case, 0) for case in self.parts[number][part])


def forecast_study(config: Config) -> list[str]:
    """Say what a study would do, how long it would take, and what disk and memory it needs.

    Args:
        config: As for ``run_study``.

    Returns:
        Lines of text.

    Raises:
        ConfigError: If the configuration fits no study, or another one than the folder holds.
        DataError: If there is no data.
        ModelError: If the network does not fit into memory.
    """
    study = plan_study(config)
    check_same_study(study)
    data = _find_data(study)
    progress = [look_at(study, number) for number in study.folds]
    cost = measure_step(study.config)
    return [
        f"study of {counted(len(data.slices), 'case')} in {counted(len(study.folds), 'fold')}, in "
        f"{study.layout.study_dir}",
        f"prepare: {'done' if data.is_prepared else 'to do'}; folds: "
        f"{'drawn' if is_split(study) else 'to draw'}",
        *(_describe_fold(study, data, number, progress[number]) for number in study.folds),
        _forecast_time(study, data, progress, cost),
        _forecast_disk(study, data, progress, cost),
        f"memory: about {_gigabytes(cost.memory_bytes)} per fold that trains, measured with the "
        f"network and a batch; {_gigabytes(available_bytes())} are free",
    ]


def _find_data(study: Study) -> _Data:
    config = study.config
    data = config.data
    files = find_source(config).cases if data.source_dir.is_dir() else ()
    manifest = data.master_dir / MANIFEST
    if manifest.is_file():
        slices = Counter(record.case for record in read_manifest(manifest))
    else:
        slices = Counter({case.name: _count_slices(case, config) for case in files})
    return _Data(
        _find_parts(study, sorted(slices, key=natural_key)),
        slices,
        manifest.is_file(),
        sum(case.label_file.stat().st_size for case in files),
    )


def _count_slices(case: CaseFiles, config: Config) -> int:
    """Return the slices of a scan, empty ones included."""
    image = read_image(case.image_file)
    return len(SliceLayout.from_affine(image.affine, config.prepare.plane).stack(image.voxels))


def _find_parts(study: Study, cases: list[str]) -> list[Mapping[str, tuple[str, ...]]]:
    if is_split(study):
        return [
            read_split_record(study.fold_config(number).dataset_dir / SPLIT).cases
            for number in study.folds
        ]
    # With a table of diagnoses other cases may be drawn, but as many.
    settings = study.config.split
    return [
        partition.parts()
        for partition in draw_folds(
            cases,
            folds=settings.folds,
            valid_fraction=settings.valid_fraction,
            seed=settings.seed,
        )
    ]


def _describe_fold(study: Study, data: _Data, number: int, fold: FoldProgress) -> str:
    sizes = ", ".join(f"{part} {len(cases)}" for part, cases in data.parts[number].items())
    if fold.evaluated:
        state = "done"
    elif fold.trained:
        state = "trained, to score"
    else:
        state = f"{fold.epochs} of {study.config.train.epochs} epochs done"
    return f"fold {number}: {sizes} patients; {state}"


def _forecast_time(study: Study, data: _Data, progress: list[FoldProgress], cost: StepCost) -> str:
    train = study.config.train
    seconds, steps = 0.0, 0
    for number, fold in enumerate(progress):
        if fold.trained:
            continue
        steps, checks = _count_steps(study, data, number)
        each = steps * cost.train_s + checks * cost.predict_s
        seconds += (train.epochs - fold.epochs) * each
    left = [number for number, fold in enumerate(progress) if not fold.trained]
    at_once = max(1, min(len(find_places(study.config)), len(left)))
    if study.config.parallel.backend == "dask":
        at_once = max(1, len(left))
    return (
        f"time: a step takes {cost.train_s:.3g} s here on the {cost.device}, an epoch "
        f"{counted(steps, 'step')}; at most {format_duration(seconds / at_once)} to train "
        f"{counted(len(left), 'fold')}, {at_once} at once. Early stopping shortens it; preparing "
        "and scoring come on top"
    )


def _count_steps(study: Study, data: _Data, number: int) -> tuple[int, int]:
    """Return the steps of an epoch of a fold, and the batches of its validation."""
    train = study.config.train
    if study.config.model.kind == WHOLE_HEART:
        from heartseg.runs.whole_heart_training import STEPS_PER_EPOCH

        return train.steps_per_epoch or STEPS_PER_EPOCH, len(data.parts[number]["valid"])
    learned, checked = (data.count(number, part) for part in ("train", "valid"))
    return (
        train.steps_per_epoch or -(-learned // train.batch_size),
        -(-checked // train.batch_size),
    )


def _forecast_disk(study: Study, data: _Data, progress: list[FoldProgress], cost: StepCost) -> str:
    size = study.config.prepare.image_width * study.config.prepare.image_height
    slices = 0 if data.is_prepared else sum(data.slices.values()) * size
    missing = sum(not study.layout.fold(number).best.is_file() for number in range(len(progress)))
    models = missing * cost.parameters * WEIGHT_BYTES * (1 + STATE_COPIES)
    return (
        f"disk: about {_gigabytes(slices + models + data.label_bytes)}: "
        f"{_gigabytes(models)} of models and their states, {_gigabytes(data.label_bytes)} of "
        f"predictions, at most {_gigabytes(slices)} of slices, which the folds share where the "
        "file system has hard links"
    )


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
