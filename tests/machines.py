"""What several machines share, on loopback: PostgreSQL and a store of objects that speaks S3; and
those machines, as processes."""

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from moto.server import ThreadedMotoServer

from benchmarks.site import Postgres, Site


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of an S3 service; this process and those that it starts find and may use it."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    account = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with mock.patch.dict(os.environ, account):
        yield endpoint
    server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server that all tests of this process share."""
    server = Postgres()
    yield server
    server.remove()


@pytest.fixture
def site(postgres: Postgres, tmp_path: Path) -> Iterator[Site]:
    """Machines that share a folder."""
    made = Site(postgres, str(tmp_path / "shared"), tmp_path)
    yield made
    made.close()
