"""The two kinds of network: one object for each, which builds, feeds, loads and measures it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from heartseg.cohort.cases import CaseFiles
from heartseg.config.schema import Config
from heartseg.inference.engine import Engine
from heartseg.modelfile.description import SLICES, WHOLE_HEART, ModelDescription
from heartseg.progress import Report, silent
from heartseg.runs.layout import RunLayout
from heartseg.runs.slice_kind import SliceKind
from heartseg.runs.whole_heart_kind import WholeHeartKind

if TYPE_CHECKING:
    # Keras takes seconds to load: a kind is known before it is needed.
    import keras

    from heartseg.inference.segmenter import Segmenter
    from heartseg.runs.material import Material
    from heartseg.runs.rehearsal import Rehearsal


class Kind(Protocol):
    """What differs between networks that see slices and networks that see the whole heart."""

    name: str
    """As ``model.kind`` and the model file name it."""
    takes_pictures: bool
    """Whether it can segment single slices: pictures, and prepared slices without their volume."""

    def adopt_data(self, config: Config) -> Config:
        """Return the configuration with what the data has decided already.

        Raises:
            ConfigError: If the network does not fit the data.
        """

    def build_network(self, config: Config) -> "keras.Model":
        """Build the network, under the dtype policy in force, with weights that follow the seed."""

    def compile_network(self, network: "keras.Model", config: Config) -> None:
        """Give a network optimizer, loss and metrics."""

    def rehearse(self, config: Config) -> "Rehearsal":
        """Return a batch like those of a training, without its data, to time a step."""

    def write_description(self, network: "keras.Model", layout: RunLayout) -> Path | None:
        """Write the summary of a network; return the file of its drawing, if there is one."""

    def check_material(self, config: Config) -> None:
        """Look for what the network learns from, without reading it or loading TensorFlow.

        Raises:
            DataError: If something is missing.
        """

    def gather_material(self, config: Config, *, report: Report = silent) -> "Material":
        """Find what the network learns from."""

    def build_segmenter(
        self, engine: Engine, model: ModelDescription, config: Config
    ) -> "Segmenter":
        """Return what segments scans with a trained network, as section ``infer`` says."""

    def compare_recipes(self, config: Config, model: ModelDescription) -> list[str]:
        """List the keys of the configuration that differ from what a model was trained with."""

    def measure_published(
        self,
        network: "keras.Model",
        model: ModelDescription,
        cases: Sequence[CaseFiles],
        config: Config,
    ) -> Mapping[str, float]:
        """Return the figures that the published program gives, over the test part of a split."""


KINDS: Mapping[str, Kind] = {SLICES: SliceKind(), WHOLE_HEART: WholeHeartKind()}


def find_kind(name: str) -> Kind:
    """Return the kind of network of this name, which a configuration or model file has."""
    return KINDS[name]
