"""An inspector for the tests of a module."""

from collections.abc import Iterator

import pytest

from kolbo_demo.preflight import Inspector


@pytest.fixture(scope="module")
def inspector() -> Iterator[Inspector]:
    inspector = Inspector()
    yield inspector
    inspector.close()
