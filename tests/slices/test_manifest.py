import pytest

from heartseg.errors import DataError
from heartseg.slices.manifest import SliceRecord, read_manifest, slice_file_name, write_manifest

HEADER = "file,case,slice,plane,source,height,width,spacing_row_mm,spacing_col_mm,foreground"


def record(case="pat1", index=3, **changes):
    values = {
        "file": slice_file_name(case, index),
        "case": case,
        "slice": index,
        "plane": "sagittal",
        "source": f"{case}_cropped_norm.nii.gz",
        "height": 11,
        "width": 14,
        "spacing_row_mm": 1.5,
        "spacing_col_mm": 0.8,
        "foreground": 42,
    }
    return SliceRecord(**{**values, **changes})


@pytest.mark.parametrize(
    ("index", "name"), [(0, "pat4_000.png"), (79, "pat4_079.png"), (1234, "pat4_1234.png")]
)
def test_slices_are_numbered_with_at_least_three_digits(index, name):
    assert slice_file_name("pat4", index) == name


def test_the_manifest_is_read_as_written_in_natural_order(tmp_path):
    records = [record("pat10", 2), record("pat2", 100), record("pat2", 9, spacing_row_mm=1 / 3)]
    write_manifest(tmp_path / "manifest.csv", records)

    assert read_manifest(tmp_path / "manifest.csv") == [records[2], records[1], records[0]]
    text = (tmp_path / "manifest.csv").read_bytes().decode()
    assert text.splitlines()[0] == HEADER
    assert "\r" not in text


def test_a_manifest_may_be_empty(tmp_path):
    write_manifest(tmp_path / "manifest.csv", [])
    assert read_manifest(tmp_path / "manifest.csv") == []


ROW = "pat1_003.png,pat1,3,sagittal,pat1.nii,11,14,1.5,0.8,42"


def test_a_manifest_edited_in_a_spreadsheet_is_read(tmp_path):
    """Spreadsheets add a byte order mark, other line ends, and move columns."""
    content = f"note,{HEADER}\r\nmine,{ROW}\r\n"
    (tmp_path / "manifest.csv").write_text(content, encoding="utf-8-sig", newline="")
    assert read_manifest(tmp_path / "manifest.csv") == [record(source="pat1.nii")]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "expected the columns file, case, slice, .*; missing: case, file, foreground"),
        ("file,case\na,b\n", "; missing: foreground, height, plane, slice, source, spacing_col_mm"),
        (f"{HEADER}\n{ROW.replace(',3,', ',three,')}\n", "cannot be read .*'three'"),
        (f"{HEADER}\n{ROW.replace(',42', '')}\n", "cannot be read as a manifest"),
        (f"{HEADER}\n{ROW.replace('1.5', 'nan')}\n", "spacing .* of pat1_003.png is out of range"),
        (f"{HEADER}\n{ROW.replace(',11,', ',-11,')}\n", "size, .* of pat1_003.png is out of range"),
        (
            f"{HEADER}\n{ROW.replace('pat1_003.png', '../pat1_003.png')}\n",
            "'../pat1_003.png'",
        ),
        (f"{HEADER}\n{ROW.replace('pat1_003.png', '/etc/passwd')}\n", "'/etc/passwd'"),
        (f"{HEADER}\n{ROW.replace('pat1_003.png', '..')}\n", "expected the name of a slice file"),
        (HEADER + "\n" + ROW.replace("pat1_003.png", "a\\b.png") + "\n", "name of a slice file"),
        (f"{HEADER}\n{ROW.replace('pat1_003.png', '')}\n", "name of a slice file, found ''"),
        (f'{HEADER}\n"{ROW}\n', "cannot be read as a manifest"),
        (f"{HEADER}\n{ROW}\n{ROW}\n", "expected each slice once, found pat1_003.png twice"),
        (f"{HEADER}\n{ROW}\0\n", "cannot be read as a manifest"),
        (f"{HEADER}\n{'x' * 200_000},{ROW}\n", "cannot be read as a manifest .*field larger"),
    ],
)
def test_an_invalid_manifest_is_refused(tmp_path, content, problem):
    file = tmp_path / "manifest.csv"
    file.write_text(content)
    with pytest.raises(DataError, match=problem) as caught:
        read_manifest(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_a_manifest_that_is_missing_or_not_a_text_is_refused(tmp_path):
    (tmp_path / "manifest.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as a manifest"):
        read_manifest(tmp_path / "manifest.csv")
    with pytest.raises(DataError, match="run `heartseg prepare` first"):
        read_manifest(tmp_path / "none.csv")
