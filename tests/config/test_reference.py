from pathlib import Path

from heartseg.config.reference import build_reference
from heartseg.config.schema import Config

DOCS = Path(__file__).parents[2] / "docs"


def test_the_reference_in_the_documents_is_that_of_the_schema():
    written = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert written == build_reference(), "run `make docs`"


def test_every_key_has_a_meaning():
    reference = build_reference()
    rows = [line for line in reference.splitlines() if line.startswith("| `")]
    assert len(rows) > 80
    assert all(row.split("|")[4].strip() for row in rows)
    assert all(f"`{name}`" in reference for name in Config.model_fields)
