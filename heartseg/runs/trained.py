"""Trained models, the packaged one and those of runs: known before they are loaded, and loaded."""

import hashlib
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from heartseg.config.schema import APPLIED, Config, find_foreign_keys
from heartseg.errors import ConfigError
from heartseg.inference.ensemble import combine, describe_ensemble
from heartseg.modelfile.checkpoint import read_metadata
from heartseg.modelfile.description import ModelDescription
from heartseg.modelfile.onnx_file import SUFFIX as ONNX_SUFFIX
from heartseg.modelfile.onnx_file import (
    check_ports,
    check_second_file,
    read_onnx,
    read_onnx_metadata,
)
from heartseg.modelfile.packaged import describe_packaged
from heartseg.runs.engines import start_engine
from heartseg.runs.kind import find_kind
from heartseg.runs.study_layout import check_model_file, list_models

if TYPE_CHECKING:
    from heartseg.inference.engine import Engine
    from heartseg.inference.segmenter import Segmenter


def describe_model(model_file: Path | None) -> ModelDescription:
    """Return what a model was trained for, without loading it.

    Args:
        model_file: A ``.keras`` or ``.onnx`` file; the folder of a study, whose models segment
            together; None: the packaged model.

    Raises:
        DataError: If a fold of the study is not trained.
        ModelError: If it is missing, damaged, or of another kind.
    """
    members = list_models(model_file)
    if len(members) > 1:
        return describe_ensemble([describe_model(member) for member in members])
    model_file = members[0]
    if model_file is None:
        return describe_packaged().description
    check_model_file(model_file)
    source = str(model_file)
    if model_file.suffix == ONNX_SUFFIX:
        network = read_onnx(model_file)
        metadata = read_onnx_metadata(network, source=source)
        described = ModelDescription.from_metadata(
            metadata, source=source, identity=_identify(model_file)
        )
        check_ports(network, described, source=source)
        return described
    return ModelDescription.from_metadata(
        read_metadata(model_file), source=source, identity=_identify(model_file)
    )


def describe_applied(model_file: Path | None, config: Config) -> ModelDescription:
    """Return what a model was trained for, as far as ``infer.second_stage`` has it applied.

    Args:
        model_file: As in ``describe_model``.
        config: Uses the section ``infer``.

    Raises:
        ConfigError: If the model would ignore a setting of the section ``infer``.
        DataError: If a fold of the study is not trained.
        ModelError: If the model is missing or damaged, or its second stage is.
    """
    described = describe_model(model_file)
    _refuse_foreign(config, described.kind, model_file)
    if not config.infer.second_stage:
        return described.without_second_stage()
    if model_file is not None and model_file.suffix == ONNX_SUFFIX and described.second_stage:
        check_second_file(model_file)
    return described


def _refuse_foreign(config: Config, kind: str, model_file: Path | None) -> None:
    foreign = [key for key in find_foreign_keys(config, kind) if key.startswith(APPLIED)]
    if foreign:
        name = "the packaged model" if model_file is None else str(model_file)
        advice = "leave it out"
        if "infer.overlay" in foreign:
            advice += ", and use infer.movie for the labels over every slice of a volume"
        raise ConfigError(
            f"{', '.join(foreign)}: {name} is of model.kind: {kind}, which does not use this; "
            f"{advice}"
        )


def _identify(model_file: Path) -> str:
    """Return the name of a model file with the first digits of its checksum."""
    digest = hashlib.sha256()
    with model_file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return f"{model_file.name}, sha256 {digest.hexdigest()[:12]}"


def load_segmenter(model_file: Path | None, config: Config) -> "Segmenter":
    """Load a model that segments scans; see ``start_segmenter``."""
    return start_segmenter(model_file, config)[0]


def start_segmenter(model_file: Path | None, config: Config) -> "tuple[Segmenter, Engine]":
    """Load a model that segments scans; with Keras that takes seconds.

    Args:
        model_file: As in ``describe_model``.
        config: Its section ``infer`` says how a network of slices is applied and what computes it,
            its section ``parallel`` where, and its section ``labels`` in which colours people see
            the structures.

    Returns:
        What segments scans, and what computes for it.

    Raises:
        ModelError: If it is missing, damaged, or no model of heartseg.
    """
    members = list_models(model_file)
    if len(members) > 1:
        started = [start_segmenter(member, config) for member in members]
        return combine([segmenter for segmenter, _ in started]), started[0][1]
    model_file = members[0]
    model = describe_applied(model_file, config)
    model = replace(model, table=model.table.displayed_as(config.label_table))
    engine = start_engine(model_file, model, config)
    return find_kind(model.kind).build_segmenter(engine, model, config), engine


def load_segmenter_once(model_file: Path | None, config: Config) -> "Segmenter":
    """Return the segmenter of the last call, or load one where the file or settings changed.

    A worker of a cluster gets one case at a time, and loading takes longer than a case.

    Args:
        model_file: As in ``load_segmenter``.
        config: As in ``load_segmenter``.

    Raises:
        ModelError: If it is missing, damaged, or no model of heartseg.
    """
    if model_file is None:
        return _load_segmenter_once(None, config, "packaged")
    stats = [member.stat() for member in list_models(model_file) if member is not None]
    stamp = ";".join(f"{stat.st_size}:{stat.st_mtime_ns}" for stat in stats)
    return _load_segmenter_once(model_file, config, stamp)


@lru_cache(maxsize=1)
def _load_segmenter_once(model_file: Path | None, config: Config, _stamp: str) -> "Segmenter":
    return load_segmenter(model_file, config)
