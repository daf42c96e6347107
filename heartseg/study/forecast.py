"""``heartseg study --dry-run``: what a study would do, and what it would take."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heartseg.cohort.cases import CaseFiles
from heartseg.cohort.partition import draw_folds
from heartseg.cohort.split_record import SPLIT, read_split_record
from heartseg.config.schema import Config
from heartseg.files import natural_key
from heartseg.modelfile.description import WHOLE_HEART
from heartseg.networks.memory import available_bytes
from heartseg.pipelines.prepare import is_prepared
from heartseg.plurals import counted
from heartseg.runs.source_data import find_source
from heartseg.runs.step_cost import StepCost, measure_steps
from heartseg.scans.geometry import SliceLayout
from heartseg.scans.volume import read_image
from heartseg.slices.manifest import MANIFEST, read_manifest
from heartseg.study.plan import (
    Study,
    check_same_study,
    has_slices_only,
    is_split,
    plan_study,
)
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
        DataError: If the data is missing.
        ModelError: If the network does not fit into memory.
    """
    study = plan_study(config)
    check_same_study(study)
    data = _find_data(study)
    progress = [look_at(study, number) for number in study.folds]
    costs = measure_steps(study.config)
    return [
        f"study of {counted(len(data.slices), 'case')} in {counted(len(study.folds), 'fold')}, in "
        f"{study.layout.study_dir}",
        f"prepare: {'done' if data.is_prepared else 'to do'}; folds: "
        f"{'drawn' if is_split(study) else 'to draw'}",
        *(_describe_fold(study, data, number, progress[number]) for number in study.folds),
        _forecast_time(study, data, progress, costs),
        _forecast_disk(study, data, costs),
        f"memory: about {_gigabytes(costs[-1].memory_bytes)} per fold that trains, measured with "
        "the network and a batch; what it holds of the data comes on top. "
        f"{_gigabytes(available_bytes())} are free",
    ]


def _find_data(study: Study) -> _Data:
    config = study.config
    slices_only = has_slices_only(study)
    files = () if slices_only else find_source(config).cases
    prepared = slices_only or is_prepared(config)
    slices = (
        Counter(record.case for record in read_manifest(config.data.master_dir / MANIFEST))
        if prepared
        else Counter({case.name: _count_slices(case, config) for case in files})
    )
    return _Data(
        _find_parts(study, sorted(slices, key=natural_key)),
        slices,
        prepared,
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
        most, left = sum(study.epochs), sum(fold.epochs_left(study.epochs))
        state = f"{most - left} of {most} epochs done"
    return f"fold {number}: {sizes} patients; {state}"


def _forecast_time(
    study: Study, data: _Data, progress: Sequence[FoldProgress], costs: Sequence[StepCost]
) -> str:
    seconds = 0.0
    for number, fold in enumerate(progress):
        stages = zip(
            fold.epochs_left(study.epochs), _count_steps(study, data, number), costs, strict=True
        )
        for epochs, (steps, checks), cost in stages:
            if epochs:
                seconds += cost.start_s + epochs * (steps * cost.step_s + checks * cost.predict_s)
    left = sum(not fold.trained for fold in progress)
    parallel = study.config.parallel
    at_once = left if parallel.backend == "dask" else min(len(find_places(study.config)), left)
    shares_cores = costs[0].device == "CPU" and parallel.backend != "dask"
    if not shares_cores:
        seconds /= max(1, at_once)
    return (
        f"time: {'; '.join(_describe_stages(study, data, costs))}; at most "
        f"{format_duration(seconds)} to train {counted(left, 'fold')}, {at_once} at once"
        f"{', which share the cores' if shares_cores and at_once > 1 else ''}. Early stopping "
        "shortens it; preparing and scoring come on top"
    )


def _describe_stages(study: Study, data: _Data, costs: Sequence[StepCost]) -> list[str]:
    counts = [_count_steps(study, data, number) for number in study.folds]
    longest = [max(steps for steps, _ in stage) for stage in zip(*counts, strict=True)]
    first, *second = (
        f"{cost.step_s:.3g} s here on the {cost.device}, an epoch {counted(steps, 'step')}"
        for cost, steps in zip(costs, longest, strict=True)
    )
    return [f"a step takes {first}", *(f"a step of the second stage {text}" for text in second)]


def _count_steps(study: Study, data: _Data, number: int) -> list[tuple[int, int]]:
    """Return the steps of an epoch and the batches of its validation, for each stage of a fold."""
    train, second = study.config.train, study.config.second_stage
    if study.config.model.kind == WHOLE_HEART:
        from heartseg.runs.whole_heart_training import STEPS_PER_EPOCH
        from heartseg.synthesis.patches import PER_VOLUME

        checks = len(data.parts[number]["valid"])
        stages = [(train.steps_per_epoch or STEPS_PER_EPOCH, checks)]
        if second.enabled:
            stages.append((second.steps_per_epoch, checks * PER_VOLUME))
        return stages
    learned, checked = (data.count(number, part) for part in ("train", "valid"))
    return [
        (train.steps_per_epoch or -(-learned // train.batch_size), -(-checked // train.batch_size))
    ]


def _forecast_disk(study: Study, data: _Data, costs: Sequence[StepCost]) -> str:
    size = study.config.prepare.image_width * study.config.prepare.image_height
    slices = 0 if data.is_prepared else sum(data.slices.values()) * size
    missing = sum(not study.layout.fold(number).best.is_file() for number in study.folds)
    # The file of a run holds both networks, beside those that each stage keeps.
    joined = sum(cost.parameters for cost in costs[1:])
    kept = sum(cost.parameters * (1 + STATE_COPIES) for cost in costs) + joined
    models = missing * kept * WEIGHT_BYTES
    return (
        f"disk: about {_gigabytes(slices + models + data.label_bytes)}: "
        f"{_gigabytes(models)} of models and their states, {_gigabytes(data.label_bytes)} of "
        f"predictions, at most {_gigabytes(slices)} of slices, which the folds share where the "
        "file system has hard links"
    )


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
