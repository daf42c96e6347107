"""Which model made a label map: noted in its file, so that scores of it can be audited anywhere."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

import nibabel

ABBREVIATED = 16
"""Digits of a fingerprint that are noted: enough to tell billions of label maps apart."""
_TITLE = "heartseg model\n"
_COMMENT_EXTENSION = 6


@dataclass(frozen=True)
class Provenance:
    """The model that made a label map.

    Attributes:
        model: Its identity.
        learned: Abbreviated fingerprints of the label maps that it learned from.
    """

    model: str
    learned: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        """What files say of it, as JSON in one line."""
        return json.dumps({"model": self.model, "learned": sorted(self.learned)})

    @classmethod
    def from_text(cls, text: str) -> "Provenance | None":
        """Return what a file says; None if it is nonsense."""
        try:
            content = json.loads(text)
            return cls(str(content["model"]), frozenset(map(str, content["learned"])))
        except (KeyError, RecursionError, TypeError, ValueError):
            return None

    def has_learned(self, fingerprint: str) -> bool:
        """Whether the model learned from the label map with this fingerprint."""
        return abbreviate(fingerprint) in self.learned


def abbreviate(fingerprint: str) -> str:
    """Return the first digits of a fingerprint, without its prefix."""
    return fingerprint.rpartition("-")[2][:ABBREVIATED]


def note_provenance(header: nibabel.Nifti1Header, provenance: Provenance) -> None:
    """Note in the header of a label map which model made it."""
    content = f"{_TITLE}{provenance.text}".encode()
    header.extensions.append(nibabel.nifti1.Nifti1Extension(_COMMENT_EXTENSION, content))


def read_provenance(header: nibabel.Nifti1Header) -> Provenance | None:
    """Return which model made a label map; None if its header does not say, or says nonsense."""
    for text in _comments(header):
        if text.startswith(_TITLE):
            return Provenance.from_text(text.removeprefix(_TITLE))
    return None


def _comments(header: nibabel.Nifti1Header) -> Iterable[str]:
    for extension in getattr(header, "extensions", ()):
        if extension.get_code() == _COMMENT_EXTENSION:
            content = extension.get_content()
            text = content.decode(errors="replace") if isinstance(content, bytes) else str(content)
            # NIfTI fills extensions up to 16 bytes.
            yield text.rstrip("\0 ")
