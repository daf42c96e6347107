"""The codes by which other programs know a structure of the heart."""

from collections.abc import Mapping
from dataclasses import dataclass

from heartseg.labels import LabelTable, Structure

PRIVATE_SCHEME = "99HEARTSEG"
"""Scheme of structures that heartseg has no SNOMED CT code for; DICOM reserves names with 99."""


@dataclass(frozen=True)
class Concept:
    """A coded term.

    Attributes:
        value: The code.
        scheme: Who defines it; ``SCT`` is SNOMED CT.
        meaning: The term in words, as DICOM spells it.
    """

    value: str
    scheme: str
    meaning: str


CONCEPTS: Mapping[str, Concept] = {
    "LV": Concept("87878005", "SCT", "Left ventricle"),
    "RV": Concept("53085002", "SCT", "Right ventricle"),
    "LA": Concept("82471001", "SCT", "Left atrium"),
    "RA": Concept("73829009", "SCT", "Right atrium"),
    "AO": Concept("15825003", "SCT", "Aorta"),
    "PA": Concept("81040000", "SCT", "Pulmonary artery"),
    "SVC": Concept("48345005", "SCT", "Superior vena cava"),
    "IVC": Concept("64131007", "SCT", "Inferior vena cava"),
}
"""SNOMED CT codes by the key of a structure.

References:
    DICOM PS3.16, context groups 3010, 7151 and 7192.
"""
ANATOMICAL_STRUCTURE = Concept("91723000", "SCT", "Anatomical Structure")
"""The category of all of them (DICOM PS3.16, context group 7150)."""


def concept_of(structure: Structure) -> Concept:
    """Return the code of a structure: SNOMED CT if its key is known, else a private one."""
    private = Concept(structure.key[:16], PRIVATE_SCHEME, structure.name[:64])
    return CONCEPTS.get(structure.key.upper(), private)


def find_structure(table: LabelTable, *, code: str, texts: tuple[str, ...]) -> Structure | None:
    """Return the structure that another program means, by its code or else by its name.

    Args:
        table: The structures that are known.
        code: Value of the code, such as ``87878005``; empty if there is none.
        texts: Names that may be the key, the name or the term of a structure, in any case.
    """
    for structure in table.foreground:
        if code and concept_of(structure).value == code:
            return structure
    wanted = {" ".join(text.replace("_", " ").split()).casefold() for text in texts} - {""}
    for structure in table.foreground:
        names = (structure.key, structure.name, concept_of(structure).meaning)
        if wanted & {name.casefold() for name in names}:
            return structure
    return None
