import pytest

from heartseg.plurals import counted


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 slices"), (1, "1 slice"), (2, "2 slices"), (8329, "8,329 slices")]
)
def test_only_one_is_singular(number, text):
    assert counted(number, "slice") == text
