"""The page over HTTP, without a browser and with nobody behind it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from kolbo_demo import ui
from kolbo_demo.settings import Settings
from tests.scripted import (  # noqa: F401 - fixtures
    client,
    clip,
    media_dir,
    no_settings,
    portrait,
    server,
    speech,
    talking,
)
from tests.ui.serving import serving

ENVIRONMENT_KEY = "kolbo_live_" + "e" * 40
LOCAL_KEY = "kolbo_live_" + "1" * 40


@pytest.fixture(scope="session")
def page_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A page that uses a key from its environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        settings = Settings(
            api_key=SecretStr(ENVIRONMENT_KEY),
            api_url="http://127.0.0.1:9/api",
            data_dir=tmp_path_factory.mktemp("data"),
        )
        local = ui.Local("http://127.0.0.1:9/api", SecretStr(LOCAL_KEY))
        with serving(settings, local) as url:
            yield url


@pytest.fixture
def secret_picture(tmp_path: Path, portrait: Path) -> Path:  # noqa: F811 - the fixture above
    """A picture on this machine that no visitor uploaded."""
    path = tmp_path / "private.png"
    path.write_bytes(portrait.read_bytes())
    return path
