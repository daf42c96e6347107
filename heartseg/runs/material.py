"""What every kind of training gives to the one loop that fits, saves and resumes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import keras
import tensorflow as tf

from heartseg.config.schema import Config
from heartseg.config.training_sections import TrainConfig
from heartseg.runs.rehearsal import Rehearsal
from heartseg.training.loop import AfterEpoch, compile_model
from heartseg.training.placement import Placement
from heartseg.training.precision import Precision

Batches: TypeAlias = "tf.data.Dataset[Any]"


@dataclass(frozen=True)
class Fed:
    """What the loop is fed with.

    Attributes:
        train: Endless batches.
        valid: One pass over the validation data; None if there is none.
        steps: Batches of an epoch.
    """

    train: Batches
    valid: "Batches | None"
    steps: int


class NetworkBuilder(Protocol):
    """What builds and compiles a network: a kind of network, or a second stage."""

    def build_network(self, config: Config) -> keras.Model:
        """Build the network, under the dtype policy in force, with weights that follow the seed."""

    def compile_network(self, network: keras.Model, config: Config) -> None:
        """Give a network optimizer, loss and metrics."""

    def rehearse(self, config: Config) -> Rehearsal:
        """Return a batch like those of a training, without its data, to time a step."""


class Material(Protocol):
    """A network and the data that it learns from."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What a model file must know beside its weights; plain values."""

    @property
    def names(self) -> list[list[str]]:
        """What the processes of one training must agree on: the names of all that is read."""

    def check_memory(self, precision: Precision) -> None:
        """Refuse what cannot fit, before it is allocated."""

    def feed(self, placement: Placement, *, first_epoch: int) -> Fed:
        """Return the batches, from an epoch on."""

    def watch(self, placement: Placement) -> AfterEpoch:
        """Return what is called after each epoch, to see the masks change."""


def compile_with(
    model: keras.Model,
    train: TrainConfig,
    loss: keras.losses.Loss,
    metrics: list[keras.metrics.Metric],
) -> None:
    """Compile a network as the section ``train`` says."""
    compile_model(
        model,
        learning_rate=train.learning_rate,
        clipvalue=train.clipvalue,
        clipnorm=train.clipnorm,
        weight_decay=train.weight_decay,
        average_momentum=train.average_weights,
        loss=loss,
        metrics=metrics,
        shortcuts=train.shortcuts == "auto",
    )
