"""OpenAPI descriptions that FastAPI cannot derive from the routes."""

from typing import Any

from pydantic import BaseModel

from kolbo_demo.contract import ErrorReply, LipsyncRequest

Responses = dict[int | str, dict[str, Any]]

_ERRORS: Responses = {
    "4XX": {"model": ErrorReply, "description": "Refused: what is wrong and what to do."},
    "5XX": {"model": ErrorReply, "description": "The service cannot answer now."},
}
RESULT_RESPONSES: Responses = {
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


def responses(model: type[BaseModel]) -> Responses:
    """Responses of an endpoint: `model`, or an error."""
    return {200: {"model": model}, **_ERRORS}


def _start_request() -> dict[str, Any]:
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


START_REQUEST = _start_request()
"""Body of a start request, which is parsed as a stream, without FastAPI."""
