"""What the tests of every room share: a live service, one at a time in a pytest process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kolbo_demo.service.app import LocalService, serving
from kolbo_demo.service.rate_limit import Limits
from kolbo_demo.settings import Settings

LONGEST = (
    *("service/test_cluster", "browser/test_browser_after", "wild/test_behind_proxy"),
    *("browser/test_browser_access", "browser/test_browser_words"),
    *("browser/test_browser_pictures", "security/test_fair_queue", "service/test_shutdown"),
    *("browser/test_browser_page", "service/test_supervisor", "browser/test_browser_layout"),
    *("browser/test_browser_memory", "security/test_page_floods", "browser/test_browser_sound"),
    *("service/test_job_queue", "space/test_space", "browser/test_browser_models"),
    *("browser/test_browser_gallery", "browser/test_browser_preflight", "cli/test_local"),
    *("test_bad_input", "service/test_crash_recovery", "browser/test_browser_guard"),
    *("engine/test_render", "browser/test_browser_inputs", "wild/test_faces"),
    *("engine/test_voices", "media/test_sandbox", "browser/test_browser_cloud"),
    *("service/test_retention", "engine/test_idle_motion", "browser/test_browser_verify"),
    *("cli/test_batch", "browser/test_browser_code", "engine/test_segments"),
    *("engine/sync_eval/test_judge", "browser/test_browser_batch", "security/test_event_files"),
    *("engine/test_clip_render", "engine/test_still_render", "engine/test_mouth_exemplars"),
    *("browser/test_browser_space", "test_private_folder", "security/test_gate"),
    *("process/test_confinement", "service/test_pause", "security/test_http_server"),
    *("cli/test_cli", "wild/test_wild_sound", "ui/test_ui_shared_key", "security/test_disk_quota"),
    *("ui/test_ui_visitors", "ui/test_ui_sign_in", "security/test_assistants"),
    *("ui/test_ui_mount", "ui/test_ui_generate", "ui/test_ui_endpoints"),
    *("service/test_damaged_files", "service/test_metrics_and_logs"),
    *("credentials/test_credentials", "contract/test_snippets", "security/test_retention_clock"),
    *("service/test_app", "service/test_upgrade", "wild/test_picture_sizes"),
    *("engine/test_prompt", "wild/test_clip_colours", "space/test_install"),
)
"""Files of 7 s and more, the longest first: begun last, one would keep a processor waiting. Their
tests are marked as slow."""
QUICK = {"cli/test_cli", "credentials/test_credentials"}
"""Not marked: nothing shorter tests their packages."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    places = {here / f"{name}.py": place for place, name in enumerate(LONGEST)}
    quick = {here / f"{name}.py" for name in QUICK}
    items.sort(key=lambda item: places.get(item.path, len(places)))
    for item in items:
        if item.path in places and item.path not in quick:
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
