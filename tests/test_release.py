"""What a release consists of fits together: versions, changelog, citation, workflows."""

import re
import sys
from pathlib import Path

import pytest
import yaml

import heartseg

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_citation_and_the_changelog_are_of_this_version():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["version"] == heartseg.__version__
    sections = re.findall(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)
    assert sections[0] == heartseg.__version__
    cited = [reference["doi"] for reference in citation["references"] if "doi" in reference]
    assert all(doi in read("README.md") for doi in cited if doi.startswith("10.1038/"))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is of Python 3.11")
def test_every_supported_python_is_tested_on_every_system():
    import tomllib

    matrix = yaml.safe_load(read(".github/workflows/tests.yml"))["jobs"]["test"]["strategy"]
    systems = {name.partition("-")[0] for name in matrix["matrix"]["os"]}
    assert systems == {"ubuntu", "macos", "windows"}
    versions = [int(version.removeprefix("3.")) for version in matrix["matrix"]["python"]]
    supported = tomllib.loads(read("pyproject.toml"))["project"]["requires-python"]
    assert supported == f">=3.{min(versions)},<3.{max(versions) + 1}"
    assert versions == list(range(min(versions), max(versions) + 1))


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_a_workflow_has_few_rights_pinned_actions_and_targets_that_exist(file):
    workflow = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {}
    targets = set(re.findall(r"^([\w-]+(?: [\w-]+)*):", read("Makefile"), re.MULTILINE))
    targets = {name for line in targets for name in line.split()}
    for job in workflow["jobs"].values():
        rights = {"id-token": "write"} if "environment" in job else {"contents": "read"}
        assert job["permissions"] == rights
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"])
            for target in re.findall(r"^make ([\w-]+)", step.get("run", ""), re.MULTILINE):
                assert target in targets
