"""Codes of the structures, against pydicom's copy of the DICOM dictionaries."""

import pytest
from pydicom.sr.codedict import codes

from heartseg.exchange.terminology import (
    ANATOMICAL_STRUCTURE,
    CONCEPTS,
    concept_of,
    find_structure,
)
from heartseg.labels import HVSMR, Structure


@pytest.mark.parametrize(
    ("key", "concept"),
    [
        ("LV", codes.SCT.LeftVentricle),
        ("RV", codes.SCT.RightVentricle),
        ("LA", codes.SCT.LeftAtrium),
        ("RA", codes.SCT.RightAtrium),
        ("AO", codes.SCT.Aorta),
        ("PA", codes.SCT.PulmonaryArtery),
        ("SVC", codes.SCT.SuperiorVenaCava),
        ("IVC", codes.SCT.InferiorVenaCava),
    ],
)
def test_the_codes_are_those_of_dicom(key, concept):
    own = CONCEPTS[key]
    assert (own.value, own.scheme, own.meaning) == (
        concept.value,
        concept.scheme_designator,
        concept.meaning,
    )


def test_the_category_is_that_of_dicom():
    category = codes.cid7150.AnatomicalStructure
    assert (ANATOMICAL_STRUCTURE.value, ANATOMICAL_STRUCTURE.meaning) == (
        category.value,
        category.meaning,
    )


def test_every_structure_of_the_data_set_has_a_snomed_code_of_its_own():
    concepts = [concept_of(structure) for structure in HVSMR.foreground]
    assert {concept.scheme for concept in concepts} == {"SCT"}
    assert len({concept.value for concept in concepts}) == 8


def test_a_structure_of_ones_own_has_a_private_code():
    concept = concept_of(Structure(9, "TUMOUR", "cardiac tumour", (1, 2, 3)))
    assert (concept.value, concept.scheme, concept.meaning) == (
        "TUMOUR",
        "99HEARTSEG",
        "cardiac tumour",
    )


@pytest.mark.parametrize(
    ("code", "texts", "key"),
    [
        ("15825003", ("whatever",), "AO"),
        ("", ("Aorta",), "AO"),
        ("", ("ao",), "AO"),
        ("85756007", ("left_ventricle",), "LV"),
        ("", ("Segment_1", "Superior  Vena Cava"), "SVC"),
        ("1", ("liver",), None),
        ("", (), None),
        ("", ("",), None),
    ],
)
def test_a_segment_is_found_by_code_or_else_by_name(code, texts, key):
    found = find_structure(HVSMR, code=code, texts=texts)
    assert (found.key if found else None) == key
