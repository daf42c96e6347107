import time
from pathlib import Path

import pytest

from heartseg.config.loading import dump_config, load_config, write_config
from heartseg.config.schema import Config
from heartseg.errors import ConfigError


@pytest.fixture
def write(tmp_path):
    def write_yaml(text):
        file = tmp_path / "config.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write_yaml


def test_no_file_gives_the_defaults():
    assert load_config(None) == Config()


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}"])
def test_an_empty_file_gives_the_defaults(write, text):
    assert load_config(write(text)) == Config()


def test_the_published_recipe_is_the_default(request):
    file = request.config.rootpath / "configs" / "whole_heart.yaml"
    assert load_config(file) == Config()


def test_numbers_in_exponent_form_are_numbers(write):
    config = load_config(write("train:\n  learning_rate: 1e-4\n"), ["train.min_learning_rate=2E-6"])
    assert config.train.learning_rate == 1e-4
    assert config.train.min_learning_rate == 2e-6


def test_set_wins_over_the_file_and_the_file_over_the_default(write):
    file = write("train: {epochs: 7, batch_size: 5}")
    config = load_config(file, ["train.epochs=9", "train.patience=3", "train.patience=4"])
    train = config.train
    assert (train.epochs, train.batch_size, train.patience) == (9, 5, 4)
    assert train.reducer_patience == 4


def test_set_values_are_yaml():
    config = load_config(
        None,
        [
            "prepare.window_range=[0, 2.5]",
            "run_dir=runs/a=b",
            "infer.images_dir=null",
            "train.augment.flip_vertical=true",
            " train.epochs = 3 ",
        ],
    )
    assert config.prepare.window_range == (0, 2.5)
    assert config.run_dir == Path("runs/a=b")
    assert config.infer.images_dir is None
    assert config.train.augment.flip_vertical
    assert config.train.epochs == 3


@pytest.mark.parametrize("override", ["", "train", "train.epochs", "=3", "train..epochs=3", ".=1"])
def test_a_setting_without_key_or_value_is_refused(override):
    with pytest.raises(ConfigError, match=r"expected section\.key=value"):
        load_config(None, [override])


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("run_dir.deep=3", "did you mean|valid path|not a path"),
        ("train.epochs.more=1", "epochs"),
        ("train.epochs=[", "--set train.epochs=.*: not valid YAML"),
        ("train.epoch=3", "train.epoch: unknown key; did you mean epochs?"),
        ("train=3", "train"),
        ("labels.0.key=x", "labels"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(override, problem):
    with pytest.raises(ConfigError, match=problem):
        load_config(None, [override])


def test_a_setting_below_a_value_of_the_file_is_refused(write):
    with pytest.raises(ConfigError, match=r"--set train\.epochs\.x=1: epochs is not a section"):
        load_config(write("train: {epochs: 3}"), ["train.epochs.x=1"])


def test_all_problems_are_named_at_once_with_the_file(write):
    file = write(
        "train:\n  reduer_patience: 4\n  epochs: many\nmodel:\n  num_layers: 99\nmdel: 1\n"
    )

    with pytest.raises(ConfigError) as caught:
        load_config(file)

    lines = str(caught.value).splitlines()
    assert lines[0] == f"{file}: 4 problems"
    assert len(lines) == 5
    text = str(caught.value)
    assert "train.reduer_patience: unknown key; did you mean reducer_patience?" in text
    assert "train.epochs: Input should be a valid integer" in text
    assert "got 'many'" in text
    assert "model.num_layers: Input should be less than or equal to 10, got 99" in text
    assert "mdel: unknown key; did you mean model?" in text


def test_an_unknown_key_like_none_lists_what_is_known(write):
    with pytest.raises(ConfigError, match=r"split\.zebra: unknown key; known here: by, tr"):
        load_config(write("split: {zebra: 1}"))


def test_a_problem_deep_in_a_list_is_located(write):
    with pytest.raises(ConfigError, match=r"labels\.0\.colour: unknown key; did you mean color"):
        load_config(
            write("labels: [{value: 0, key: b, name: b, color: [0, 0, 0], colour: [0, 0, 0]}]")
        )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("train: !!python/object/apply:os.system ['true']", "tag"),
        ("train: !!timestamp foo", "tag"),
        ("train: {epochs: !!int ''}", "tag"),
        ("train: {epochs: !!bool foo}", "tag"),
        ("train: {epochs: ! 3}", "tag"),
        ("a: &x {epochs: 3}\ntrain: *x", "aliases are not allowed"),
        ("train: {epochs: 3}\ntrain: {epochs: 4}", "line 1: .*'train' occurs twice"),
        ("train:\n  epochs: 3\n  epochs: 4", "line 2: .*'epochs' occurs twice"),
        ("train:\n\tepochs: 3", "line 2: not valid YAML"),
        ("train: [1, 2", "not valid YAML"),
        ("[1, 2]", "expected sections such as 'data:', found a list"),
        ("just text", "expected sections such as 'data:', found 'just text'"),
        ("42", "expected sections"),
        ("train: 42", "train: "),
        ("train: null", "train: "),
        ("? [a, b]\n: 1", "not valid YAML"),
        ("1: 2", "1: "),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("train: {epochs: " + "9" * 5000 + "}", "not valid YAML"),
        ("run_dir: 2026-99-99", "not valid YAML"),
        ("run_dir: 2026-01-01", "run_dir: "),
        ("[" * 5000, "not valid YAML"),
        ('run_dir: "a\\0b"', "null character"),
        ("%YAML 9.9\n---\na: 1", "not valid YAML"),
        (b"run_dir: \xff\xfe", "cannot be read"),
        (b"run_dir: a\x00b", "not valid YAML"),
        ("run_dir: " + "x" * 200_000, "too large"),
    ],
)
def test_a_file_that_is_no_configuration_is_an_error_that_names_it(write, text, problem):
    file = write(text)
    with pytest.raises(ConfigError, match=problem) as caught:
        load_config(file)
    assert str(caught.value).startswith(str(file))
    assert len(str(caught.value)) < 2000


def test_a_byte_order_mark_is_no_part_of_the_first_key(write):
    assert load_config(write(b"\xef\xbb\xbftrain: {epochs: 3}")).train.epochs == 3


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: no such configuration file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="found a folder without it"):
        load_config(tmp_path)


def test_an_endless_file_ends(tmp_path):
    endless = Path("/dev/zero")
    if not endless.exists():
        pytest.skip("needs /dev/zero")
    with pytest.raises(ConfigError, match="too large"):
        load_config(endless)


@pytest.mark.parametrize(
    "text",
    ["".join(f"k{i}: 1\n" for i in range(9000)), "a: " + "[" * 900 + "]" * 900, "- " * 40_000],
    ids=["many keys", "deep", "nested lists"],
)
def test_a_large_file_is_refused_quickly(write, text):
    file = write(text)
    start = time.process_time()
    with pytest.raises(ConfigError):
        load_config(file)
    assert time.process_time() - start < 8


def test_the_resolved_configuration_reads_back_the_same(tmp_path):
    config = load_config(
        None,
        [
            "train.learning_rate=1.23456789e-5",
            "split.train_cases=[pat4, '58', 'no']",
            "split.valid_cases=[]",
            "split.test_cases=[pät 1]",
            "run_dir='#odd: name'",
            "prepare.window_range=[-0.1, 3]",
        ],
    )
    file = tmp_path / "run" / "config.yaml"
    write_config(config, file)
    assert load_config(file) == config
    assert dump_config(load_config(file)) == dump_config(config)
    assert file.read_text(encoding="utf-8") == dump_config(config)


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("run_dir=2026-10-07", None, "run_dir", Path("2026-10-07")),
        ("run_dir = 010", None, "run_dir", Path("010")),
        ("run_dir=null", None, "run_dir", Path("null")),
        ("run_dir='a b'", None, "run_dir", Path("a b")),
        ("data.source_dir=no", "data", "source_dir", Path("no")),
        ("data.source_dir=[1] a: b # c", "data", "source_dir", Path("[1] a: b # c")),
        ("data.label_suffix=", "data", "label_suffix", ""),
        ("data.label_suffix=010", "data", "label_suffix", "010"),
        ("train.init=a #1/b.keras", "train", "init", "a #1/b.keras"),
        ("train.init=null", "train", "init", None),
        ("train.init=", "train", "init", None),
        ("infer.output_dir=*x", "infer", "output_dir", Path("*x")),
        ("train.loss=focal", "train", "loss", "focal"),
        ("train.shortcuts=off", "train", "shortcuts", "off"),
    ],
)
def test_a_setting_of_a_text_or_path_is_taken_as_it_stands(override, section, key, value):
    config = load_config(None, [override])
    assert getattr(config if section is None else getattr(config, section), key) == value


def test_a_list_of_texts_holds_texts():
    config = load_config(
        None,
        [
            "split.train_cases=[010, 2026-10-07, no, '4']",
            "split.valid_cases=[]",
            "split.test_cases=[1e3]",
        ],
    )
    assert config.split.train_cases == ("010", "2026-10-07", "no", "4")
    assert config.split.test_cases == ("1e3",)


def test_the_home_folder_is_expanded_everywhere(write, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    config = load_config(write("data: {master_dir: ~/m}"), ["run_dir=~/r", "train.init=~/a.keras"])
    assert config.data.master_dir == tmp_path / "m"
    assert config.run_dir == tmp_path / "r"
    assert config.train.init == str(tmp_path / "a.keras")


@pytest.mark.parametrize(
    ("override", "source"),
    [
        ("train.epochs=many", "--set train.epochs=many: 1 problem\n  - train.epochs: "),
        ("train.epoch=3", "--set train.epoch=3: 1 problem\n  - train.epoch: unknown key"),
        ("prepare.window_range=[3, 1]", "--set prepare.window_range=[3, 1]: 1 problem\n"),
        ("prepare.image_width=7", "--set prepare.image_width=7: 1 problem\n"),
        ("run_dir=", "--set run_dir=: expected a path, found nothing"),
    ],
)
def test_a_wrong_setting_is_named_and_not_the_file(write, override, source):
    with pytest.raises(ConfigError) as caught:
        load_config(write("train: {batch_size: 3}"), [override])
    assert str(caught.value).startswith(source)
    assert "config.yaml" not in str(caught.value)


def test_problems_of_file_and_settings_stand_apart(write):
    file = write("train: {epochs: 0, patience: 0}")
    with pytest.raises(ConfigError) as caught:
        load_config(file, ["train.batch_size=0", "train.patience=3"])
    lines = str(caught.value).splitlines()
    assert [line for line in lines if not line.startswith("  - ")] == [
        "--set train.batch_size=0: 1 problem",
        f"{file}: 1 problem",
    ]
