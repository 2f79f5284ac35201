"""A call of Kolbo's API as a program: Python, JavaScript and a shell with curl.

Each is whole: it starts the generation, polls as often as the API hints, and saves the video. The
key comes from `KOLBO_API_KEY` and the address, where it is another one, from `KOLBO_API_URL`. What
visitors wrote is quoted as each language quotes; what the API has no field for stands in comments.
"""

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, Literal

COMMENT_WIDTH = 60
"""Letters of a line, as many as are seen on the page."""


@dataclass(frozen=True)
class Call:
    """An API call to write as code."""

    source: str
    """A link, or a file's name."""
    source_field: Literal["source_url", "image", "video"]
    """How the API calls it."""
    voice: str
    """A link, or a file's name."""
    voice_field: Literal["audio_url", "audio"]
    prompt: str | None = None
    model: str | None = None
    face: tuple[float, float] | None = None
    """x and y in 0-1."""
    insist: bool = False
    """Whether a source is rendered whose mouth is not visible."""
    before: tuple[str, ...] = ()
    """Comments, one sentence each: what is to be done first, since the API has no field for it."""
    after: tuple[str, ...] = ()
    """The same of what is to be done with the video."""

    @property
    def files(self) -> dict[str, str]:
        """Field to file name."""
        return self._inputs(linked=False)

    @property
    def fields(self) -> dict[str, Any]:
        """All the rest, as JSON has it."""
        options = {
            "prompt": self.prompt,
            "model": self.model,
            "bounding_box_target": [round(part, 4) for part in self.face] if self.face else None,
            "occlusion_detection_enabled": False if self.insist else None,
        }
        given = {name: value for name, value in options.items() if value not in (None, "")}
        return self._inputs(linked=True) | given

    @property
    def texts(self) -> dict[str, str]:
        """The same as a form has them, in which a list is JSON."""
        return {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in self.fields.items()
        }

    def _inputs(self, *, linked: bool) -> dict[str, str]:
        pairs = {self.source_field: self.source, self.voice_field: self.voice}
        return {name: value for name, value in pairs.items() if name.endswith("_url") == linked}


def python(call: Call, api: str) -> str:
    """For Python with requests; `api` is the base address, `/api` included."""
    if call.files:
        opened = ", ".join(
            f'open({_py(name)}, "rb") as {field}' for field, name in call.files.items()
        )
        files = "{" + ", ".join(f'"{field}": {field}' for field in call.files) + "}"
        given = f"files={files},\n    data={_nested(_python(call.texts))},\n    timeout=600,"
    else:
        opened = ""
        given = f"json={_nested(_python(call.fields))},\n    timeout=120,"
    start = f"""\
response = requests.post(
    f"{{API}}/v1/generate/lipsync",
    headers=HEADERS,
    {given}
)"""
    if opened:
        start = f"with {opened}:\n    {_nested(start)}"
    return f"""\
# pip install requests
import os
import time

import requests

API = os.environ.get("KOLBO_API_URL", {_py(api)})
HEADERS = {{"X-API-Key": os.environ["KOLBO_API_KEY"]}}

{_comments("#", call.before)}{start}
started = response.json()
if not response.ok:
    raise SystemExit(started.get("error") or started.get("message"))

while True:
    time.sleep(started.get("poll_interval_hint", 8))
    response = requests.get(
        f"{{API}}/v1/generate/{{started['generation_id']}}/status", headers=HEADERS, timeout=60
    )
    if response.status_code in (429, 500, 502, 503, 504):
        continue
    status = response.json()
    print(status.get("state"), status.get("progress", ""))
    if status.get("state") == "completed":
        break
    if status.get("state") not in ("processing", "pending"):
        raise SystemExit(status.get("error") or status.get("state"))

url = status["result"]["urls"][0]
with open("talking.mp4", "wb") as video:
    video.write(requests.get(url, timeout=600).content)
{_comments("#", call.after)}print("talking.mp4", url)
"""


def javascript(call: Call, api: str) -> str:
    """For Node, whose fetch is that of browsers."""
    if call.files:
        lines = ["const form = new FormData();"]
        lines += [
            f"form.append({_js(field)}, new Blob([await readFile({_js(name)})]), {_js(name)});"
            for field, name in call.files.items()
        ]
        lines += [f"form.append({_js(name)}, {_js(value)});" for name, value in call.texts.items()]
        form, headers, body = "\n".join(lines) + "\n", "HEADERS", "form"
    else:
        form = ""
        headers = '{ ...HEADERS, "Content-Type": "application/json" }'
        body = f"JSON.stringify({_js(call.fields)})".replace("\n", "\n  ")
    read = "readFile, " if call.files else ""
    return f"""\
// Node 20 or later; save it as lipsync.mjs
import {{ {read}writeFile }} from "node:fs/promises";

const API = process.env.KOLBO_API_URL ?? {_js(api)};
const HEADERS = {{ "X-API-Key": process.env.KOLBO_API_KEY }};

{_comments("//", call.before)}{form}const response = await fetch(`${{API}}/v1/generate/lipsync`, {{
  method: "POST",
  headers: {headers},
  body: {body},
}});
const started = await response.json();
if (!response.ok) throw new Error(started.error ?? started.message);

let status;
do {{
  await new Promise((done) => setTimeout(done, 1000 * (started.poll_interval_hint ?? 8)));
  const answer = await fetch(`${{API}}/v1/generate/${{started.generation_id}}/status`, {{
    headers: HEADERS,
  }});
  if ([429, 500, 502, 503, 504].includes(answer.status)) continue;
  status = await answer.json();
  console.log(status.state, status.progress ?? "");
}} while (!status || ["processing", "pending"].includes(status.state));
if (status.state !== "completed") throw new Error(status.error ?? status.state);

const url = status.result.urls[0];
const video = await fetch(url);
await writeFile("talking.mp4", Buffer.from(await video.arrayBuffer()));
{_comments("//", call.after)}console.log("talking.mp4", url);
"""


def curl(call: Call, api: str) -> str:
    """For a POSIX shell with curl 7.76 or later and sed."""
    if call.files:
        given = [f"-F {_sh(f'{field}=@{_curl(name)}')}" for field, name in call.files.items()]
        # Unlike -F it takes the text as it is, a leading @ or < too.
        given += [f"--form-string {_sh(f'{name}={text}')}" for name, text in call.texts.items()]
    else:
        given = ["-H 'Content-Type: application/json'", f"--data-raw {_sh(_js(call.fields))}"]
    request = " \\\n  ".join(['-H "X-API-Key: $KOLBO_API_KEY"', *given])
    return f"""\
#!/bin/sh
set -eu
: "${{KOLBO_API_KEY:?holds no key}}"
api=${{KOLBO_API_URL:-{_sh(api)}}}

{_comments("#", call.before)}started=$(curl -sS --fail-with-body "$api/v1/generate/lipsync" \\
  {request}) || {{ printf '%s\\n' "$started" >&2; exit 1; }}
found() {{ # a field's text or number
  tr -d '\\n' | sed -n \\
    -e "s/.*\\"$1\\" *: *\\[\\{{0,1\\}} *\\"\\([^\\"]*\\).*/\\1/p" \\
    -e "s/.*\\"$1\\" *: *\\([0-9.]*\\).*/\\1/p"
}}
id=$(printf %s "$started" | found generation_id)
pause=$(printf %s "$started" | found poll_interval_hint)

state=pending
while [ "$state" = pending ] || [ "$state" = processing ]; do
  sleep "${{pause:-8}}"
  status=$(curl -sS --retry 5 "$api/v1/generate/$id/status" -H "X-API-Key: $KOLBO_API_KEY")
  state=$(printf %s "$status" | found state)
  echo "$state"
done
[ "$state" = completed ] || {{ printf '%s\\n' "$status" >&2; exit 1; }}

url=$(printf %s "$status" | found urls)
curl -sS --fail -o talking.mp4 "$url"
{_comments("#", call.after)}echo "talking.mp4 $url"
"""


LANGUAGES: dict[str, Callable[[Call, str], str]] = {
    "Python": python,
    "JavaScript": javascript,
    "curl": curl,
}
"""By the name that people know them by."""


def _comments(sign: str, sentences: tuple[str, ...]) -> str:
    """Short lines, and no others, whatever ends a line in one of the languages."""
    lines = [line for each in sentences for line in wrap(" ".join(each.split()), COMMENT_WIDTH)]
    return "".join(f"{sign} {line}\n" for line in lines)


def _nested(text: str) -> str:
    """One level further in, but for its first line. No literal in it holds a line break."""
    return text.replace("\n", "\n    ")


def _python(fields: dict[str, Any]) -> str:
    inside = "".join(f"    {_py(name)}: {_py(value)},\n" for name, value in fields.items())
    return f"{{\n{inside}}}" if inside else "{}"


def _py(value: Any) -> str:
    text = repr(value)
    return text if '"' in text or "\\'" in text else text.replace("'", '"')


def _js(value: Any) -> str:
    """JSON is JavaScript."""
    if not isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    inside = ",\n".join(f"  {_js(name)}: {_js(inner)}" for name, inner in value.items())
    return f"{{\n{inside}\n}}"


def _sh(text: str) -> str:
    return shlex.quote(text)


def _curl(name: str) -> str:
    """A file's name inside of -F, where commas and semicolons would end it."""
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'
