"""The service in OpenAPI's words, as far as FastAPI cannot see them in the code."""

from typing import Any

from pydantic import BaseModel

from kolbo_demo.contract import ErrorReply, LipsyncRequest

Answers = dict[int | str, dict[str, Any]]

_ERRORS: Answers = {
    "4XX": {"model": ErrorReply, "description": "Refused: what is wrong and what to do."},
    "5XX": {"model": ErrorReply, "description": "The service cannot answer now."},
}
RESULT: Answers = {
    200: {
        "description": "The file.",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("video/mp4", "image/jpeg")
        },
    },
    206: {"description": "The part of it that `Range` asks for."},
    **_ERRORS,
}
"""What a result's address answers."""


def answers(model: type[BaseModel]) -> Answers:
    """What an endpoint answers: `model`, or an error."""
    return {200: {"model": model}, **_ERRORS}


def _start() -> dict[str, Any]:
    request = LipsyncRequest.model_json_schema()
    file = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "properties": {
            **request["properties"],
            **dict.fromkeys(("image", "video", "audio"), file),
            "bounding_box_target": {"type": "string", "description": "JSON, such as [0.5, 0.4]."},
        },
    }
    return {
        "security": [{"APIKeyHeader": []}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": request},
                "multipart/form-data": {"schema": form},
            },
        },
    }


START = _start()
"""What a start request may hold: it is read as it arrives, past FastAPI."""
