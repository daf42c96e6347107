"""Label tables of public data sets of the heart, and what data sets call their structures."""

from collections.abc import Mapping

from heartseg.labels import HVSMR, LabelTable, Structure

ALIASES = {
    "LV": ("LVC", "LV cavity", "left ventricular cavity", "heart ventricle left"),
    "RV": ("RVC", "RV cavity", "right ventricular cavity", "heart ventricle right"),
    "LA": ("left atrial cavity", "heart atrium left"),
    "RA": ("right atrial cavity", "heart atrium right"),
    "AO": ("aorta", "ascending aorta", "AA"),
    "PA": ("pulmonary artery",),
    "SVC": ("superior vena cava",),
    "IVC": ("inferior vena cava",),
    "MYO": ("MLV", "LVM", "LV myocardium", "left ventricular myocardium", "heart myocardium"),
}
"""What data sets call the structures of these keys."""

_MUSCLE = ("myocardi", "muscle")
"""Parts of words: a structure whose name holds one of them is muscle."""
_COLORS = {structure.key: structure.color for structure in HVSMR}
_COLORS["MYO"] = (255, 128, 0)
_MYOCARDIUM = "myocardium of the left ventricle"


def _table(*structures: tuple[str, str, int]) -> LabelTable:
    """Build a table from key, name and source value of each structure, in order from 1."""
    foreground = []
    for value, (key, name, stored) in enumerate(structures, start=1):
        differing = None if stored == value else (stored,)
        foreground.append(Structure(value, key, name, _COLORS[key], source_values=differing))
    return LabelTable((HVSMR.structures[0], *foreground))


MMWHS = _table(
    ("MYO", _MYOCARDIUM, 205),
    ("LA", "left atrium", 420),
    ("LV", "left ventricle", 500),
    ("RA", "right atrium", 550),
    ("RV", "right ventricle", 600),
    ("AO", "ascending aorta", 820),
    ("PA", "pulmonary artery", 850),
)
"""The seven structures of MM-WHS, in the order of the values of its label maps.

References:
    Zhuang and Shen (2016). Medical Image Analysis 31. https://doi.org/10.1016/j.media.2016.02.006
"""
ACDC = _table(
    ("RV", "right ventricle", 1),
    ("MYO", _MYOCARDIUM, 2),
    ("LV", "left ventricle", 3),
)
"""The three structures of ACDC.

References:
    Bernard et al. (2018). IEEE TMI 37(11). https://doi.org/10.1109/TMI.2018.2837502
"""
MNMS = _table(
    ("LV", "left ventricle", 1),
    ("MYO", _MYOCARDIUM, 2),
    ("RV", "right ventricle", 3),
)
"""The three structures of M&Ms.

References:
    Campello et al. (2021). IEEE TMI 40(12). https://doi.org/10.1109/TMI.2021.3090082
"""
LABEL_TABLES: Mapping[str, LabelTable] = {
    "hvsmr": HVSMR,
    "mmwhs": MMWHS,
    "acdc": ACDC,
    "mnms": MNMS,
}
"""Ready tables, by the name that `labels` takes."""


def find_structure(table: LabelTable, *texts: str) -> Structure | None:
    """Return the structure with one of these texts as its key or name, or one of its ``ALIASES``.

    Capital letters do not matter, and underscores count as spaces.
    """
    wanted = {_fold(text) for text in texts} - {""}
    for structure in table:
        if wanted & {_fold(structure.key), _fold(structure.name)}:
            return structure
    for structure in table:
        if wanted & {_fold(alias) for alias in ALIASES.get(structure.key.upper(), ())}:
            return structure
    return None


def blood_structures(table: LabelTable) -> tuple[Structure, ...]:
    """Return the structures that are filled with blood: all of the foreground but muscle.

    Muscle is what has the key ``MYO`` or one of its ``ALIASES``, or a name that speaks of
    myocardium or muscle.
    """
    muscle = {_fold(alias) for alias in ("MYO", *ALIASES["MYO"])}
    return tuple(
        s
        for s in table.foreground
        if not muscle & {_fold(s.key), _fold(s.name)}
        and not any(part in _fold(s.name) for part in _MUSCLE)
    )


def _fold(text: str) -> str:
    return " ".join(text.replace("_", " ").split()).casefold()
