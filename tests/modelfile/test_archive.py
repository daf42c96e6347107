import io
import json
import zipfile
from contextlib import suppress

import h5py
import keras
import numpy as np
import pytest

from heartseg.errors import ModelError
from heartseg.labels import HVSMR
from heartseg.modelfile.checkpoint import load_model, save_model
from heartseg.networks.unet import build_unet
from heartseg.training.losses import build_loss
from heartseg.training.metrics import METRICS, build_metrics


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """The members of a sound model file, to be spoilt one at a time."""
    file = tmp_path_factory.mktemp("model") / "sound.keras"
    save_model(build_unet(image_size=(8, 8), base_filters=2, num_layers=2), file, {"a": 1})
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def compiled_members(tmp_path_factory):
    """The members of the last state of training: with loss, metrics and optimizer."""
    model = build_unet(image_size=(8, 8), base_filters=2, num_layers=2)
    model.compile("adam", build_loss("dice", 9), metrics=build_metrics(METRICS, HVSMR))
    model.optimizer.build(model.trainable_variables)
    file = tmp_path_factory.mktemp("model") / "state.keras"
    save_model(model, file, {}, with_optimizer=True)
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(members):
    """Return the bytes of an archive of members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda members: b"no archive", "second_stage.keras is damaged"),
        (lambda members: pack({**members, "more.txt": b"x"}), "found 'more.txt'"),
        (
            lambda members: pack({**members, "second_stage.keras": pack(members)}),
            "found 'second_stage.keras'",
        ),
        (
            lambda members: pack(
                with_config(members, lambda config: config.update(module="os", class_name="system"))
            ),
            "names the class 'system'",
        ),
    ],
)
def test_the_second_stage_within_a_model_file_is_checked_as_the_first(
    members, write, spoil, message
):
    inner = {name: content for name, content in members.items() if name != "heartseg.json"}
    sound = write({**members, "second_stage.keras": pack(inner)})
    assert load_model(sound, second_stage=True).name == "flexunet"
    for second_stage in (False, True):
        with pytest.raises(ModelError, match=message):
            load_model(
                write({**members, "second_stage.keras": spoil(inner)}), second_stage=second_stage
            )


def test_a_model_of_one_stage_has_no_second(members, write):
    with pytest.raises(ModelError, match=r"odd\.keras: expected a second stage, found none"):
        load_model(write(members), second_stage=True)


@pytest.fixture
def write(tmp_path):
    def write_archive(members, compression=zipfile.ZIP_STORED):
        with zipfile.ZipFile(tmp_path / "odd.keras", "w", compression) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return tmp_path / "odd.keras"

    return write_archive


def with_config(members, change):
    config = json.loads(members["config.json"])
    change(config)
    return {**members, "config.json": json.dumps(config).encode()}


def layer_of(config, name):
    return next(layer for layer in config["config"]["layers"] if layer["name"] == name)


def test_a_sound_file_passes(members, write):
    assert load_model(write(members)).name == "flexunet"


def test_losses_and_metrics_load_from_whatever_module_they_were_written_in(compiled_members, write):
    old = compiled_members["config.json"].replace(b"heartseg.training.", b"heartseg.model.")
    assert old != compiled_members["config.json"]
    loaded = load_model(write({**compiled_members, "config.json": old}), compiled=True)
    assert type(loaded.loss) is type(build_loss("dice", 9))


def test_a_lambda_layer_is_refused_by_name(tmp_path):
    images = keras.Input((8, 8, 3))
    keras.Model(images, keras.layers.Lambda(lambda x: x / 2)(images)).save(tmp_path / "odd.keras")
    with pytest.raises(ModelError, match=r"odd\.keras: names the class '(Lambda|__lambda__)'"):
        load_model(tmp_path / "odd.keras")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("keras.layers", "TFSMLayer"),
        ("keras.layers", "StringLookup"),
        ("keras.layers", "TorchModuleWrapper"),
        ("os", "system"),
        ("builtins", "function"),
        ("keras.utils", "get_file"),
        ("keras.src.utils.file_utils", "get_file"),
        ("heartseg.files", "replacing"),
        (None, "__lambda__"),
        (["keras.layers"], "Conv2D"),
        ("keras.layers", ["Conv2D"]),
    ],
)
def test_a_class_that_does_more_than_compute_is_refused_by_name(module, name, members, write):
    def change(config):
        layer_of(config, "bridge_conv_1").update(module=module, class_name=name)

    with pytest.raises(ModelError, match="names the class"):
        load_model(write(with_config(members, change)))


def test_a_class_deep_within_an_option_is_refused(members, write):
    def change(config):
        options = layer_of(config, "bridge_conv_1")["config"]
        options["kernel_initializer"]["config"]["seed"] = [
            {"class_name": "function", "module": "builtins", "config": "exec"}
        ]

    with pytest.raises(ModelError, match="'function' of the module 'builtins'"):
        load_model(write(with_config(members, change)))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("filters", 30_000, "describes a network of .* weights but holds"),
        ("filters", 10**12, "expected a size of 1 to"),
        ("filters", -1, "expected a size of 1 to"),
        ("filters", "many", "expected a size of 1 to"),
        ("kernel_size", [9_999, 9_999], "describes a network of .* weights but holds"),
        ("kernel_size", 3, "is not the description of a network"),
        ("data_format", "channels_first", "expected data_format channels_last"),
        ("strides", [0, 0], "cannot be loaded as a model"),
        ("padding", 5, "cannot be loaded as a model"),
        ("filters", 3, "cannot be loaded as a model"),
    ],
)
def test_a_size_that_is_only_claimed_is_refused(key, value, message, members, write):
    def change(config):
        layer_of(config, "bridge_conv_2")["config"][key] = value

    with pytest.raises(ModelError, match=message):
        load_model(write(with_config(members, change)))


@pytest.mark.parametrize(
    "content", [b"{}", b'{"config": 5}', b'{"config": {"layers": [1]}}', b"[]", b"\x00"]
)
def test_a_description_of_something_else_is_refused(content, members, write):
    with pytest.raises(ModelError, match=r"config\.json"):
        load_model(write({**members, "config.json": content}))


@pytest.mark.parametrize("name", ["../evil.py", "assets/vocabulary.txt", "/etc/evil"])
def test_a_member_that_does_not_belong_is_refused(name, members, write):
    with pytest.raises(ModelError, match="expected the members"):
        load_model(write({**members, name: b"content"}))


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_a_missing_member_is_named(name, members, write):
    with pytest.raises(ModelError, match=f"expected a member {name}"):
        load_model(write({key: value for key, value in members.items() if key != name}))


def test_a_compressed_archive_is_refused_before_it_unfolds(members, write):
    bomb = {**members, "model.weights.h5": b"\0" * (1 << 24)}
    with pytest.raises(ModelError, match="is compressed"):
        load_model(write(bomb, zipfile.ZIP_DEFLATED))


def plain(weights, secret):
    weights.create_dataset("never_written", (1 << 40,), "float32")


def chunked(weights, secret):
    weights.create_dataset("zeros", (1 << 20,), "float32", compression="gzip", chunks=(1 << 20,))


def external(weights, secret):
    weights.create_dataset("leak", (4,), "uint8", external=[(str(secret), 0, 4)])


def external_link(weights, secret):
    weights["leak"] = h5py.ExternalLink(str(secret), "/")


def soft_link(weights, secret):
    weights["leak"] = h5py.SoftLink("/elsewhere")


def cycle(weights, secret):
    weights["layers/again"] = weights["layers"]


@pytest.mark.parametrize("spoil", [plain, chunked, external, external_link, soft_link, cycle])
def test_weights_that_claim_or_point_elsewhere_are_refused(spoil, members, write, tmp_path):
    (tmp_path / "secret").write_bytes(b"1234")
    buffer = io.BytesIO(members["model.weights.h5"])
    with h5py.File(buffer, "r+") as weights:
        spoil(weights, tmp_path / "secret")
    with pytest.raises(
        ModelError, match=r"not stored as plain numbers|links to another place|occurs twice"
    ):
        load_model(write({**members, "model.weights.h5": buffer.getvalue()}))


def test_weights_that_are_no_hdf5_are_refused(members, write):
    with pytest.raises(ModelError, match=r"model\.weights\.h5 is damaged"):
        load_model(write({**members, "model.weights.h5": b"nothing of the kind"}))


def test_random_damage_is_never_another_error(members, write):
    rng = np.random.default_rng(137)
    for _ in range(60):
        spoilt = dict(members)
        name = rng.choice(["config.json", "model.weights.h5"])
        content = bytearray(spoilt[name])
        for position in rng.integers(0, len(content), rng.integers(1, 8)):
            content[position] = rng.integers(256)
        spoilt[name] = bytes(content)
        # What the damage does not touch may still load.
        with suppress(ModelError):
            load_model(write(spoilt))
