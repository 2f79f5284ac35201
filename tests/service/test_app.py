"""The app beside a page, and the reasons for which it cannot work."""

import pytest
import requests
from starlette.testclient import TestClient

from kolbo_demo.service.app import create_app, serving
from kolbo_demo.service.errors import ServiceError
from kolbo_demo.settings import Settings

_BESIDE_A_PAGE = """
import json, socket, sys, threading
import gradio as gr
import uvicorn
from kolbo_demo.service.app import create_app
from kolbo_demo.settings import Settings
app = create_app(Settings())
with gr.Blocks() as page:
    text, out = gr.Textbox(), gr.Textbox()
    def count(n):
        for i in range(int(n)):
            yield str(i)
    text.submit(count, text, out, api_name="count")
gr.mount_gradio_app(app, page, path="/")
listener = socket.create_server(("127.0.0.1", 0))
server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
threading.Thread(target=server.run, args=([listener],)).start()
while not server.started: pass
url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
print(json.dumps([url, app.state.keys.default.get_secret_value()]), flush=True)
sys.stdin.read()
server.should_exit = True
"""


def test_a_page_beside_the_service_keeps_its_own_ways(other_process, tmp_path, refused):
    other = other_process(tmp_path, _BESIDE_A_PAGE)
    api = other.caller()
    root = api.base.removesuffix("/api")
    assert "<gradio-app" in requests.get(root, timeout=10).text
    missing = requests.get(f"{root}/nothing-here", timeout=10)
    assert missing.status_code == 404
    assert "code" not in missing.text
    refused(api.get("/v1/nothing"), 404, "NOT_FOUND")
    assert api.get("/v1/models").json()["count"] == 2
    refused(api.get("/v1/generate/lip_00000000000000000000/status"), 404, "GENERATION_NOT_FOUND")
    event = requests.post(f"{root}/gradio_api/call/count", json={"data": ["3"]}, timeout=10)
    stream = requests.get(
        f"{root}/gradio_api/call/count/{event.json()['event_id']}", timeout=10
    ).text
    assert stream.count("event: generating") >= 3
    assert other.stop()[0] == 0


def test_a_second_service_on_the_same_folder_is_refused(other_process, tmp_path):
    first = other_process(tmp_path)
    first.caller()
    code, said = other_process(tmp_path).stop()
    assert code == 1
    assert said.count("\n") == 1
    assert "KOLBO_DATA_DIR" in said


def test_a_second_service_in_the_same_process_is_refused(live_service, tmp_path):
    with (
        pytest.raises(ServiceError, match="in this process"),
        serving(Settings(data_dir=tmp_path)),
    ):
        pass


def test_an_app_whose_queue_cannot_start_reports_why_and_lists_models(
    live_service, tmp_path, refused
):
    app = create_app(Settings(data_dir=tmp_path))
    headers = {"X-API-Key": app.state.keys.default.get_secret_value()}
    with TestClient(app, headers=headers) as client:
        said = refused(client.post("/api/v1/generate/lipsync"), 503, "SERVICE_UNAVAILABLE")
        assert "in this process" in said
        generation = "/api/v1/generate/lip_00000000000000000000"
        refused(client.get(f"{generation}/status"), 503, "SERVICE_UNAVAILABLE")
        refused(client.post(f"{generation}/cancel"), 503, "SERVICE_UNAVAILABLE")
        assert client.get("/api/v1/models").json()["count"] == 2


def test_any_folder_name_is_accepted(other_process, tmp_path):
    folder = tmp_path / "a?b#c 50% ünï 😀 it's"
    other = other_process(folder)
    assert other.caller().get("/v1/models").status_code == 200
    assert other.stop() == (0, "")
    assert (folder / "jobs.sqlite").stat().st_size > 10_000
    assert list(tmp_path.iterdir()) == [folder]


def test_a_taken_port_is_reported(live_service, tmp_path):
    port = int(live_service.base_url.rsplit(":", 1)[1].removesuffix("/api"))
    with (
        pytest.raises(ServiceError, match=f"port {port}"),
        serving(Settings(data_dir=tmp_path), port=port),
    ):
        pass


def test_an_unusable_folder_is_reported(other_process, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    code, said = other_process(tmp_path / "file").stop()
    assert code == 1
    assert "KOLBO_DATA_DIR" in said
    assert "Traceback" not in said


def test_without_an_engine_other_endpoints_respond(live_service, api, refused, files, monkeypatch):
    problem = "The library libexample.so.1 is missing; install it."
    monkeypatch.setattr("kolbo_demo.engine.unavailable_reason", lambda: problem)
    assert refused(api.lipsync(files=files()), 503, "ENGINE_UNAVAILABLE") == problem
    assert api.get("/v1/models").status_code == 200


def test_keys_are_configured_or_random_and_never_logged(tmp_path):
    given = Settings(data_dir=tmp_path).model_copy(update={"local_api_key": None})
    first, second = (create_app(given).state.keys.default for _ in range(2))
    assert first != second
    assert first.get_secret_value().startswith("kolbo_live_")
    assert len(first.get_secret_value()) == len("kolbo_live_") + 40
    assert first.get_secret_value() not in repr(first)
