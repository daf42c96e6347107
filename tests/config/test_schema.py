import pytest
from pydantic import ValidationError

from heartseg.config.schema import Config
from heartseg.labels import HVSMR


def test_the_defaults_are_the_published_recipe():
    config = Config()

    assert (config.prepare.image_width, config.prepare.image_height) == (512, 512)
    assert config.prepare.plane == "sagittal"
    assert config.prepare.window_range == (0.0, 1.0)
    assert (config.split.train_fraction, config.split.valid_fraction) == (0.8, 0.15)
    assert config.split.seed == 137
    assert config.split.by == "patient"
    model = config.model
    assert (model.base_filters, model.base_kernels, model.num_layers) == (16, (7, 7), 8)
    assert (model.dropout_rate, model.dilation, model.activation) == (0.04, (1, 1), "relu")
    assert model.normalization == "none"
    train = config.train
    assert (train.learning_rate, train.clipvalue, train.batch_size) == (7e-5, 0.5, 2)
    assert (train.epochs, train.patience, train.reducer_patience) == (100, 10, 4)
    assert train.reducer_factor == 0.5
    assert train.loss == "categorical_crossentropy"
    assert train.metrics == ("dice_coef_multiclass",)
    assert config.label_table == HVSMR


def test_values_do_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        Config().train.epochs = 3


@pytest.mark.parametrize(
    ("section", "key", "value", "problem"),
    [
        ("train", "epochs", 0, "greater than 0"),
        ("train", "epochs", 2.5, "integer"),
        ("train", "epochs", "many", "integer"),
        ("train", "epochs", True, "true"),
        ("train", "learning_rate", False, "false"),
        ("train", "learning_rate", float("nan"), "finite"),
        ("train", "learning_rate", -1e-4, "greater than 0"),
        ("train", "loss", "mse", "categorical_crossentropy"),
        ("train", "metrics", ["dice"], "dice_coef_multiclass"),
        ("train", "tensorboard", "perhaps", "boolean"),
        ("train", "seed", -1, "greater than or equal to 0"),
        ("train", "reducer_factor", 1, "less than 1"),
        ("prepare", "plane", "oblique", "sagittal"),
        ("prepare", "window_range", [1, 0], "low < high"),
        ("prepare", "window_range", [0, 1, 2], "at most 2"),
        ("prepare", "window_range", [False, 1], "false"),
        ("prepare", "spacing_mm", 0, "greater than"),
        ("prepare", "image_width", 10**9, "less than or equal to"),
        ("prepare", "num_samples", 10**6, "less than or equal to"),
        ("split", "train_fraction", 1.2, "less than or equal to 1"),
        ("split", "folds", 1, "folds of at least 2"),
        ("split", "train_cases", ["pat1"], "all three or none"),
        ("split", "train_cases", [4, 58], "string"),
        ("model", "image_channels", 2, "1 or 3"),
        ("model", "num_layers", 1, "greater than or equal to 2"),
        ("data", "source_dir", 7, "path"),
        ("data", "source_dir", "a\0b", "null character"),
        ("parallel", "backend", "magic", "loky"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(section, key, value, problem):
    with pytest.raises(ValidationError, match=problem) as caught:
        Config.model_validate({section: {key: value}})
    assert section in str(caught.value)


def test_the_window_in_percentiles_stays_below_100():
    with pytest.raises(ValidationError, match=r"percentiles in \[0, 100\]"):
        Config.model_validate({"prepare": {"window": "percentile", "window_range": [1, 101]}})


def test_fractions_sum_to_at_most_one():
    with pytest.raises(ValidationError, match="expected at most 1"):
        Config.model_validate({"split": {"train_fraction": 0.9, "valid_fraction": 0.2}})


@pytest.mark.parametrize("extra", [{"by": "slice"}, {"folds": 3}])
def test_case_lists_go_alone(extra):
    lists = {"train_cases": ["a"], "valid_cases": [], "test_cases": ["b"]}
    with pytest.raises(ValidationError, match="explicit case lists go with"):
        Config.model_validate({"split": {**lists, **extra}})


def test_a_size_that_the_network_cannot_halve_is_refused():
    with pytest.raises(ValidationError, match=r"prepare\.image_width: expected a multiple of 128"):
        Config.model_validate({"prepare": {"image_width": 500}})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, r"set prepare\.keep_empty: true"),
        ({"prepare": {"keep_empty": True}, "split": {"by": "slice"}}, r"set split\.by: patient"),
    ],
)
def test_context_needs_the_neighbours_of_each_slice(change, problem):
    with pytest.raises(ValidationError, match=problem):
        Config.model_validate({"model": {"context": 1}, **change})


def test_labels_may_be_replaced_as_a_whole_in_any_order():
    labels = [
        {"value": 1, "key": "BP", "name": "blood pool", "color": [255, 0, 0]},
        {"value": 0, "key": "background", "name": "background", "color": [0, 0, 0]},
    ]
    table = Config.model_validate({"labels": labels}).label_table
    assert [s.key for s in table.structures] == ["background", "BP"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"value": 2}, "without gaps"),
        ({"key": "background"}, "key background is used more than once"),
        ({"color": [0, 0, 0]}, "used more than once"),
        ({"color": [0, 0, 256]}, "less than or equal to 255"),
        ({"color": [0, 0]}, "Field required"),
        ({"value": 255}, "less than 255"),
        ({"key": ""}, "at least 1 character"),
    ],
)
def test_a_label_map_that_makes_no_sense_is_refused(change, problem):
    labels = [
        {"value": 0, "key": "background", "name": "background", "color": [0, 0, 0]},
        {"value": 1, "key": "BP", "name": "blood pool", "color": [255, 0, 0], **change},
    ]
    with pytest.raises(ValidationError, match=problem):
        Config.model_validate({"labels": labels})


@pytest.mark.parametrize(
    ("parallel", "problem"),
    [
        ({"backend": "dask"}, "dask needs address"),
        ({"address": "node01"}, "expected HOST:PORT"),
        ({"address": "node01:99999"}, "expected HOST:PORT"),
        ({"num_processes": 2}, "several need coordinator"),
        ({"process_index": 1}, "expected less than num_processes"),
    ],
)
def test_processes_and_machines_that_cannot_meet_are_refused(parallel, problem):
    with pytest.raises(ValidationError, match=problem):
        Config.model_validate({"parallel": parallel})


def test_each_fold_has_its_own_folder():
    config = Config.model_validate({"split": {"folds": 3, "fold": 2}})
    assert config.dataset_dir == config.data.dataset_dir / "fold_2"
    assert Config().dataset_dir == Config().data.dataset_dir


def test_every_key_is_described():
    def check(section):
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"
            if hasattr(field.annotation, "model_fields"):
                check(field.annotation)

    check(Config)
