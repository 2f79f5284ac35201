"""What the tests of every room share: a live service, one at a time in a pytest process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kolbo_demo.service.app import LocalService, serving
from kolbo_demo.service.rate_limit import Limits
from kolbo_demo.settings import Settings

LONGEST = (
    *("service/test_cluster", "security/test_fair_queue", "service/test_damaged_files"),
    *("browser/test_browser_access", "security/test_page_floods"),
    *("service/test_supervisor", "service/test_crash_recovery", "browser/test_browser_preflight"),
    *("test_bad_input", "cli/test_cli", "browser/test_browser_inputs"),
    *("browser/test_browser_page", "service/test_job_queue"),
    *("browser/test_browser_after", "space/test_space", "engine/test_render"),
    *("service/test_retention", "browser/test_browser_models", "browser/test_browser_guard"),
    *("security/test_gate", "security/test_http_server", "security/test_event_files"),
    *("security/test_disk_quota", "process/test_confinement"),
    *("media/test_sandbox", "browser/test_browser_code", "browser/test_browser_cloud"),
    *("engine/test_segments", "engine/sync_eval/test_judge", "engine/test_video_reader"),
    *("engine/test_video_writer", "engine/test_mouth_exemplars", "engine/test_clip_render"),
    *("engine/test_still_render", "service/test_metrics_and_logs"),
    *("browser/test_browser_space", "browser/test_browser_batch", "cli/test_local"),
    *("service/test_storage", "wild/test_behind_proxy"),
)
"""Files of 20 s and more, the longest first: begun last, one would keep a processor waiting. Their
tests are marked as slow."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    places = {here / f"{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
    for item in items:
        if item.path in places:
            item.add_marker("slow")
        if item.path.parent.name == "browser":
            item.add_marker("browser")
        if "postgres" in getattr(item, "fixturenames", ()):
            item.add_marker("postgres")


@pytest.fixture(scope="session", autouse=True)
def _signing_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No certificate in the home of the user who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KOLBO_SIGNING_DIR", str(tmp_path_factory.mktemp("signing")))
        yield


@pytest.fixture(scope="module")
def service_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of `live_service`."""
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def live_service(service_folder: Path) -> Iterator[LocalService]:
    """A service on a port and in a folder of its own, with room for many requests a minute.

    Links to `localhost` may be fetched, so that tests can serve files; `127.0.0.1` may not.
    There is one service a process: a test that needs another starts it in a process of its own. It
    ends with its module, as it takes its part of a processor, used or not.
    """
    settings = Settings(data_dir=service_folder, fetch_allow_hosts=frozenset({"localhost"}))
    with serving(settings, limits=Limits(generations=10_000, polls=1_000_000)) as service:
        yield service
