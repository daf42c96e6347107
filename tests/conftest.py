import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Browser, find_chromium

DATA = Path(os.environ.get("HEARTSEG_DATA", Path(__file__).parents[2] / "shared/data/hvsmr2"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow tests first: no process then waits at the end for the long test of another."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def hvsmr2() -> Path:
    """The folder of the real HVSMR-2.0 files, which are never part of the repository."""
    if not DATA.is_dir():
        pytest.skip(f"the real HVSMR-2.0 data are not at {DATA} (set HEARTSEG_DATA)")
    return DATA


@pytest.fixture(scope="session")
def dicom_data() -> Path:
    """The folder of the real DICOM series, which are never part of the repository."""
    folder = DATA.parent / "dicom"
    if not folder.is_dir():
        pytest.skip(f"the real DICOM series are not at {folder} (set HEARTSEG_DATA)")
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    """A headless Chromium."""
    if find_chromium() is None:
        pytest.skip("Chromium is not installed: the page is not looked at")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()
