"""Fixtures every test may use."""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _shared(folder: str) -> Path:
    path = SHARED / folder
    if not path.is_dir():
        pytest.skip(f"real data is not here: ../shared/{folder} is absent")
    return path


@pytest.fixture(scope="session")
def shared_traces() -> Path:
    """The folder of real public traces; the test is skipped where it is absent."""
    return _shared("traces")


@pytest.fixture(scope="session")
def shared_validation() -> Path:
    """The folder of real engines' logs; the test is skipped where it is absent."""
    return _shared("validation")
