import pytest

from heartseg.config.loading import dump_config, load_config
from heartseg.errors import ConfigError
from heartseg.label_tables import (
    ACDC,
    LABEL_TABLES,
    MMWHS,
    blood_structures,
    find_structure,
)
from heartseg.labels import HVSMR, LabelTable, Structure


@pytest.mark.parametrize("name", LABEL_TABLES)
def test_a_configuration_takes_a_table_by_name_and_keeps_it(name, tmp_path):
    config = load_config(None, [f"labels={name}"])
    assert config.label_table == LABEL_TABLES[name]
    assert config.label_table.source_labels == LABEL_TABLES[name].source_labels
    file = tmp_path / "config.yaml"
    file.write_text(dump_config(config))
    assert load_config(file) == config


def test_an_unknown_name_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ConfigError, match="one of hvsmr, mmwhs, acdc, mnms, got 'nothing'"):
        load_config(None, ["labels=nothing"])


def test_a_source_value_of_two_structures_is_an_error():
    with pytest.raises(ConfigError, match="the source value 3 stands for more than one"):
        HVSMR.stored_as({"background": (0,), "LV": (3,), "RV": (3,)})


@pytest.mark.parametrize(
    ("table", "text", "key"),
    [
        (HVSMR, "left atrium", "LA"),
        (HVSMR, "Left_Atrium", "LA"),
        (HVSMR, "lv", "LV"),
        (ACDC, "MLV", "MYO"),
        (ACDC, "LVC", "LV"),
        (MMWHS, "heart_atrium_right", "RA"),
        (MMWHS, "aorta", "AO"),
        (ACDC, "aorta", None),
        (HVSMR, "", None),
    ],
)
def test_structures_are_found_by_what_data_sets_call_them(table, text, key):
    structure = find_structure(table, text)
    assert (structure and structure.key) == key


@pytest.mark.parametrize(
    ("table", "keys"),
    [
        (HVSMR, ["LV", "RV", "LA", "RA", "AO", "PA", "SVC", "IVC"]),
        (MMWHS, ["LA", "LV", "RA", "RV", "AO", "PA"]),
        (ACDC, ["RV", "LV"]),
    ],
)
def test_all_structures_but_the_myocardium_are_blood(table, keys):
    assert [structure.key for structure in blood_structures(table)] == keys


@pytest.mark.parametrize(
    ("key", "name", "is_blood"),
    [
        ("myo", "wall of the left ventricle", False),
        ("LVM", "left ventricle, outer", False),
        ("HM", "heart_myocardium", False),
        ("RVM", "Right ventricular myocardium", False),
        ("PAP", "papillary muscles", False),
        ("LAA", "left atrial appendage", True),
    ],
)
def test_muscle_is_known_by_its_key_an_alias_or_its_name(key, name, is_blood):
    table = LabelTable((HVSMR.structures[0], Structure(1, key, name, (1, 2, 3))))
    assert bool(blood_structures(table)) is is_blood
