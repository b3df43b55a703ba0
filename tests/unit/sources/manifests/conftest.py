"""The fixture that the tests of the manifest source share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.sources.manifests.desk import Desk, Told


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    (tmp_path / "manifests").mkdir()
    return Desk(tmp_path / "manifests", Told())
