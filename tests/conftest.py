"""What the tests of every room share: one live service a pytest process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kolbo_demo.service.app import LocalService, serving
from kolbo_demo.service.limits import Limits
from kolbo_demo.settings import Settings


@pytest.fixture(scope="session")
def service_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of `live_service`."""
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="session")
def live_service(service_folder: Path) -> Iterator[LocalService]:
    """A service on a port and in a folder of its own, with room for many requests a minute.

    Links to `localhost` may be fetched, so that tests can serve files; `127.0.0.1` may not.
    There is one service a process: a test that needs another starts it in a process of its own.
    """
    settings = Settings(data_dir=service_folder, fetch_allow_hosts=frozenset({"localhost"}))
    with serving(settings, limits=Limits(generations=10_000, polls=1_000_000)) as service:
        yield service
