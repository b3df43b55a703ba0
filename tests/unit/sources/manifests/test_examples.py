"""The examples that `make run` shows are good manifests, and each has its line in their README."""

from __future__ import annotations

from pathlib import Path

import pytest

from oarlock.sources.manifests.claims import judge
from oarlock.sources.manifests.reader import is_manifest, read_file
from tests.unit.sources.manifests.desk import NODE

EXAMPLES = Path(__file__).parents[4] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_an_example_is_valid(path: Path) -> None:
    reading = judge(read_file(path), path.name, NODE)
    assert is_manifest(path.name)
    assert [*reading.problems, *(problem for claim in reading.claims for problem in claim.problems)] == []
    assert reading.claims


def test_the_readme_names_each_example_and_each_container() -> None:
    readme = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.glob("*.yaml"):
        assert f"[{path.name}]({path.name})" in readme
        for document in read_file(path).documents:
            assert document.name is not None
            assert f"`{document.name[1]}`" in readme
