"""The second stage of a run of whole hearts: a run within the run.

It is trained when the first stage is finished, on what the best first stage finds in hearts that
are drawn anew. Its folder holds state, record and best network, so that it is resumed like any run.
In the end both networks are joined in the model file of the run.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from heartseg import __version__
from heartseg.config.schema import PACKAGED, Config
from heartseg.errors import DataError
from heartseg.inference.engine import start_onnx
from heartseg.modelfile.checkpoint import load_model, read_metadata, save_model
from heartseg.modelfile.description import SECOND_STAGE
from heartseg.modelfile.initial import has_second_stage, load_initial_weights
from heartseg.networks.correction_unet import build_correction_unet
from heartseg.runs.engines import load_graph
from heartseg.runs.folder import configure_second_stage
from heartseg.runs.kind import find_kind
from heartseg.runs.layout import RunLayout
from heartseg.runs.material import Fed, compile_with
from heartseg.runs.rehearsal import Rehearsal, rehearse_patches
from heartseg.runs.slice_training import fill_up
from heartseg.runs.whole_heart_kind import whole_heart_model
from heartseg.runs.whole_heart_training import HeartMaterial
from heartseg.slices.batches import Share
from heartseg.synthesis.heart_dataset import HeartSources
from heartseg.synthesis.patch_dataset import build_fixed_patches, build_patch_dataset
from heartseg.synthesis.patches import Patches, PatchMaker
from heartseg.training.loop import AfterEpoch, read_state
from heartseg.training.partial_volume_loss import PatchDiceCrossentropy
from heartseg.training.placement import Placement
from heartseg.training.precision import Precision, choose_precision, dtype_policy

logger = logging.getLogger(__name__)

FIRST_EPOCH = "epoch_of_first_stage"
"""Which epoch of the first stage a second one learned from, as its file says."""
SCENE_FRACTION = 0.9
"""Voxels of a scene per voxel of the grid along each axis: finer ones would show nothing more."""


class SecondStageNetwork:
    """Builds the network of a second stage; see ``NetworkBuilder``.

    Attributes:
        config: The configuration of the run within the run.
    """

    def __init__(self, config: Config) -> None:
        """Take the configuration of the whole run."""
        self._run, self._stage = config, config.second_stage
        self.config = configure_second_stage(config)

    def build_network(self, config: Config) -> keras.Model:
        """Build the network for patches of training, with the weights that it starts from."""
        network = build_correction_unet(
            patch=self._stage.training_patch,
            filters=self._stage.filters,
            num_classes=config.label_table.num_classes,
            seed=config.train.seed,
        )
        init = self._run.train.init
        if init is not None:
            file = None if init == PACKAGED else init
            if has_second_stage(file):
                load_initial_weights(network, file, second_stage=True)
            else:
                logger.info("%s has no second stage; it starts from new weights", init)
        return network

    def compile_network(self, network: keras.Model, config: Config) -> None:
        """Give the network the optimizer of the configuration and the loss of patches."""
        compile_with(network, config.train, PatchDiceCrossentropy(name="dice_crossentropy"), [])

    def rehearse(self, config: Config) -> Rehearsal:
        """Draw patches around a phantom, as a new network of the first stage finds it."""
        first = find_kind(config.model.kind).build_network(config)
        return rehearse_patches(config, first, whole_heart_model(config).grid)


class SecondStage(SecondStageNetwork):
    """A network of a second stage, and what it learns from; see ``Material``."""

    def __init__(self, config: Config, hearts: HeartMaterial) -> None:
        """Take the hearts that the first stage, which is finished, learned from.

        Args:
            config: The configuration of the whole run.
            hearts: What the first stage learned from.
        """
        super().__init__(config)
        self._hearts, self._layout = hearts, RunLayout(config.run_dir)

    def check_first(self) -> None:
        """Check that a second stage to go on with learned from the first stage as it is now.

        Raises:
            DataError: If the first stage has another best epoch since, so that its answers differ.
            ModelError: If the state of the second stage is damaged.
        """
        layout = self._layout.second_stage
        if not layout.state.is_file():
            return
        known = read_state(layout.state).metadata.get("train", {}).get(FIRST_EPOCH)
        best = read_metadata(self._layout.best)["training"]["epoch"]
        if known != best:
            raise DataError(
                f"{layout.run_dir}: this second stage learned from the first stage of epoch "
                f"{known}, whose best epoch is {best} now. Remove this folder and run the same "
                "command again, which trains the second stage anew"
            )

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the file of this network alone says; the joined file says what the first one did."""
        learned, settings = self._hearts.metadata, self._stage.model_dump(exclude={"enabled"})
        judged = read_metadata(self._layout.best)["training"]["epoch"]
        described = {
            "heartseg": __version__,
            "kind": SECOND_STAGE,
            "labels": learned["labels"],
            "second_stage": settings,
            "train": {**learned["train"], FIRST_EPOCH: judged},
            "learned_from": learned["learned_from"],
        }
        # As it reads back from a model file: lists, not tuples.
        plain: dict[str, object] = json.loads(json.dumps(described))
        return plain

    @property
    def names(self) -> list[list[str]]:
        """What the processes of one training must agree on."""
        return self._hearts.names

    def check_memory(self, precision: Precision) -> None:
        """Nothing is refused ahead: a patch of the usual size takes less than a whole heart."""

    def feed(self, placement: Placement, *, first_epoch: int) -> Fed:
        """Draw the fine scenes, read the scans again, and return the batches, from an epoch on."""
        run, stage, train = self._run, self._stage, self.config.train
        num_classes, replicas = run.label_table.num_classes, placement.num_replicas
        share = Share(placement.process_index, placement.num_processes)
        scene_grid = tuple(round(SCENE_FRACTION * side) for side in stage.grid)
        sources = HeartSources(
            self._hearts.draw_scenes((scene_grid[0], scene_grid[1], scene_grid[2])),
            self._hearts.lay_scans("train", stage.grid),
            run.synthesis.scan_share,
        )
        maker = self._make_maker()

        def draw(count: int, rng: np.random.Generator) -> Patches:
            return maker.draw(sources.draw, count, rng, mirror_share=run.synthesis.mirror_share)

        learned = build_patch_dataset(
            draw,
            stage.training_patch,
            num_classes=num_classes,
            steps_per_epoch=stage.steps_per_epoch,
            batch_size=train.batch_size * replicas,
            seed=train.seed,
            first_epoch=first_epoch,
            share=share,
        )
        scans = self._hearts.lay_scans("valid", stage.grid)
        if not scans:
            return Fed(learned, None, stage.steps_per_epoch)
        framed = [
            maker.frame(scan, np.random.default_rng((train.seed, number)))
            for number, scan in enumerate(fill_up(scans, replicas))
        ]
        valid = build_fixed_patches(
            framed, num_classes=num_classes, batch_size=replicas, share=share
        )
        return Fed(learned, valid, stage.steps_per_epoch)

    def watch(self, placement: Placement) -> AfterEpoch:  # noqa: ARG002
        """Return what does nothing: the pictures of a run show its first stage."""
        return lambda _epoch, _model: None

    def join(self) -> None:
        """Join both networks in the model file of the run; the second for patches of inference."""
        stage, trained = self._stage, load_model(self._layout.second_stage.best)
        with dtype_policy(choose_precision(self.config.train.precision).policy):
            network = build_correction_unet(
                patch=stage.patch,
                filters=stage.filters,
                num_classes=self.config.label_table.num_classes,
            )
        network.set_weights(trained.get_weights())
        known = read_metadata(self._layout.best)
        described = {key: list(getattr(stage, key)) for key in ("grid", "patch", "filters")}
        record = read_metadata(self._layout.second_stage.best)["training"]
        save_model(
            load_model(self._layout.best),
            self._layout.best,
            {**known, "second_stage": {**described, "training": record}},
            second_stage=network,
        )

    def _make_maker(self) -> PatchMaker:
        # One thread: several hearts are drawn at once, beside the network that learns.
        first = start_onnx(load_graph(self._layout.best), threads=1)
        return PatchMaker(
            first.compute,
            whole_heart_model(self._run).grid,
            self._stage.grid,
            self._stage.training_patch,
            self._run.label_table.num_classes,
        )
