"""A training from its start to its end: the network is built, fed, fitted, and its run recorded."""

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import keras
from threadpoolctl import threadpool_limits

from heartseg import __version__
from heartseg.config.schema import PACKAGED, Config
from heartseg.errors import HeartsegError
from heartseg.labels import LabelTable
from heartseg.lock import locked
from heartseg.modelfile.initial import load_initial_weights
from heartseg.ownership import discard, finish_record
from heartseg.progress import Report
from heartseg.runs.folder import claim_run_dir, describe_training, read_history
from heartseg.runs.kind import find_kind
from heartseg.runs.layout import RunLayout
from heartseg.runs.material import Material, NetworkBuilder
from heartseg.runs.second_stage import SecondStage
from heartseg.runs.slice_training import MEMORY_ADVICE
from heartseg.runs.whole_heart_training import HeartMaterial
from heartseg.slices.batches import data_errors
from heartseg.training.callbacks import Track
from heartseg.training.devices import (
    choose_device,
    find_gpus,
    memory_errors,
    name_runtime,
    set_seeds,
)
from heartseg.training.history import History, HistoryFiles
from heartseg.training.loop import (
    FitSettings,
    TrainingFiles,
    TrainingResult,
    fit,
    load_state,
)
from heartseg.training.placement import Hosts, Placement, placed
from heartseg.training.precision import Precision, choose_precision, dtype_policy

logger = logging.getLogger(__name__)


def fit_run(
    config: Config, *, resume: bool, overwrite: bool, track: Track, report: Report
) -> TrainingResult:
    """Train the network of a run; see ``run_training``."""
    kind = find_kind(config.model.kind)
    material = kind.gather_material(config, report=report)
    set_seeds(config.train.seed, deterministic=config.train.deterministic)
    parallel = config.parallel
    if parallel.num_processes == 1:
        # Several processes must meet before any of them looks for devices, and use all of them.
        choose_device(parallel.device, threads=parallel.threads)
    hosts = Hosts(parallel.num_processes, parallel.process_index, parallel.coordinator)
    with ExitStack() as stack:
        placement = stack.enter_context(placed(hosts))

        def claim() -> None:
            stack.enter_context(locked(config.run_dir))
            claim_run_dir(config, resume=resume, overwrite=overwrite)
            stack.enter_context(_recorded(RunLayout(config.run_dir)))

        placement.in_first(claim)
        # Samples are drawn in threads of their own, beside the network's: more threads in NumPy's
        # products only wait for each other, at twice the processor time.
        stack.enter_context(threadpool_limits(1, user_api="blas"))
        stack.enter_context(memory_errors(MEMORY_ADVICE))
        stack.enter_context(data_errors())
        result = _train(config, find_kind(config.model.kind), material, placement, track)
        if not config.second_stage.enabled or not isinstance(material, HeartMaterial):
            return result
        second = SecondStage(config, material)
        second.check_first()
        trained = _train(second.config, second, second, placement, track)
        placement.in_first(second.join)
        return replace(result, second_stage=trained)


@contextmanager
def _recorded(layout: RunLayout) -> Iterator[None]:
    """Record what the training in the block wrote; leave nothing if it failed as it began."""
    try:
        yield
    except HeartsegError:
        if not layout.state.is_file() and not layout.best.is_file():
            discard(layout.run_dir, layout.training_outputs)
        raise
    finish_record(layout.run_dir, layout.training_outputs)


def _train(
    config: Config,
    network: NetworkBuilder,
    material: Material,
    placement: Placement,
    track: Track,
) -> TrainingResult:
    train, layout = config.train, RunLayout(config.run_dir)
    metadata = material.metadata
    history = read_history(config.run_dir, metadata)
    precision = choose_precision(train.precision)
    device = "GPU" if find_gpus() else "CPU"
    logger.info("computing on the %s with %s, %s", device, name_runtime(), precision.reason)
    material.check_memory(precision)
    placement.check_equal(_describe_plan(config, material, history, precision))
    model = (
        load_state(layout.state, precision.policy, shortcuts=train.shortcuts == "auto")
        if history
        else build_model(config, precision, network)
    )
    placement.in_first(lambda: describe_training(model, config, precision))
    fed = material.feed(placement, first_epoch=len(history))
    return fit(
        model,
        fed.train,
        fed.valid,
        files=_training_files(layout, config.label_table),
        settings=FitSettings(
            epochs=train.epochs,
            steps_per_epoch=fed.steps,
            learning_rate=train.learning_rate,
            patience=train.patience,
            reduce_learning_rate=train.learning_rate_reducer,
            reducer_factor=train.reducer_factor,
            reducer_patience=train.reducer_patience,
            min_learning_rate=train.min_learning_rate,
            seed=train.seed,
            tensorboard=train.tensorboard,
            schedule=train.schedule,
        ),
        metadata=metadata,
        history=history,
        track=track,
        after_epoch=material.watch(placement)
        if train.epoch_change_infer and placement.is_first
        else None,
        placement=placement,
    )


def _training_files(layout: RunLayout, table: LabelTable) -> TrainingFiles:
    record = HistoryFiles(
        layout.history,
        layout.losses_table,
        layout.metrics_table,
        layout.losses_plot,
        layout.metrics_plot,
        {f"dice_{s.key}": table.display_color(s) for s in table.foreground},
    )
    return TrainingFiles(layout.best, layout.state, record, layout.tensorboard)


def build_model(
    config: Config, precision: Precision, network: "NetworkBuilder | None" = None
) -> keras.Model:
    """Build and compile the network of a run, with the weights that it starts from.

    Args:
        config: The configuration of the run.
        precision: What the network computes in.
        network: What builds it; None: the kind of ``model.kind``.
    """
    network = network or find_kind(config.model.kind)
    with dtype_policy(precision.policy):
        model = network.build_network(config)
        if config.train.init is not None:
            load_initial_weights(
                model, None if config.train.init == PACKAGED else config.train.init
            )
        network.compile_network(model, config)
    return model


def _describe_plan(
    config: Config, material: Material, history: History, precision: Precision
) -> str:
    """Say all that the processes of one training must have in common."""
    settings = config.model_dump(mode="json", exclude={"run_dir", "data", "parallel"})
    return json.dumps([settings, material.names, len(history), precision.policy, __version__])
