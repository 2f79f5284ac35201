"""Title, sentence and picture for links to the page, as a crawler reads them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from urllib.parse import urlsplit

import pytest
import requests
from PIL import Image
from pydantic import SecretStr

from kolbo_demo import ui
from kolbo_demo.service.hostnames import Site
from kolbo_demo.settings import Settings
from tests.ui.serving import serving

PUBLIC = "https://lips.example.com/demo"
HOSTILE = "evil.example.net"


@pytest.fixture(scope="module", params=[None, PUBLIC], ids=["no-public-url", "public-url"])
def crawler(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator["Crawler"]:
    """A crawler of a page that is open to others, with and without a configured URL."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        settings = Settings(data_dir=tmp_path_factory.mktemp("data"), public_url=request.param)
        local = ui.Local("http://127.0.0.1:9/api", SecretStr("kolbo_live_local"))
        site = Site.of(settings, "0.0.0.0")
        with serving(settings, local, private=False, site=site) as url:
            yield Crawler(url, request.param)


@dataclass(frozen=True)
class Crawler:
    address: str
    public: str | None

    def get(self, path: str, host: str = "203.0.113.5", **headers: str) -> requests.Response:
        headers = {"Host": host} | {name.replace("_", "-"): v for name, v in headers.items()}
        return requests.get(f"{self.address}{path}", headers=headers, timeout=10)


def tags(html: str) -> dict[str, str]:
    """Content of the tags by name; each name occurs once."""
    found = re.findall(r'<meta (?:property|name)="((?:og|twitter):[^"]+)" content="([^"]*)"', html)
    everything = re.findall(r'="((?:og|twitter):[^"]+)"', html.split("</head>")[0])
    assert sorted(name for name, _ in found) == sorted(everything) == sorted(set(everything))
    return dict(found)


def test_title_sentence_and_picture(crawler: Crawler) -> None:
    found = tags(crawler.get("/", Accept_Language="de").text)
    assert found["og:title"] == "Kolbo Lipsync"
    assert found["og:description"].startswith("Lässt ein Porträt")
    assert found["twitter:card"] == "summary_large_image"
    picture = crawler.get("/gallery/share.jpg")
    size = Image.open(BytesIO(picture.content)).size
    assert size == (int(found["og:image:width"]), int(found["og:image:height"])) == (1200, 630)


@pytest.mark.parametrize("path", ["/", "/?lang=en", "/?generation=gen_1"])
def test_addresses_are_those_that_visitors_reach(crawler: Crawler, path: str) -> None:
    """For a generation the picture is no other one: results are private."""
    for prefix in {"", urlsplit(crawler.public or "").path}:  # a proxy may strip it or not
        for host in ("203.0.113.5", "lips.example.com" if crawler.public else "203.0.113.6:8080"):
            found = tags(crawler.get(f"{prefix}{path}", host).text)
            base = crawler.public or f"http://{host}"
            assert found["og:url"] == f"{base}/"
            assert found["og:image"] == f"{base}/gallery/share.jpg"
        assert crawler.get(f"{prefix}/gallery/share.jpg").status_code == 200


def test_a_hostile_host_is_not_echoed(crawler: Crawler) -> None:
    refused = crawler.get("/", HOSTILE)
    assert refused.status_code == 403
    assert HOSTILE not in refused.text
    answer = crawler.get(
        f"/?generation={HOSTILE}%22%3E",
        X_Forwarded_Host=HOSTILE,
        X_Forwarded_Prefix=f"//{HOSTILE}",
        X_Forwarded_Server=HOSTILE,
        Forwarded=f"host={HOSTILE}",
    )
    assert answer.status_code == 200
    assert HOSTILE not in answer.text
