"""JSON replies of the API; every error is an `ErrorReply`."""

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from kolbo_demo.contract import ErrorReply
from kolbo_demo.service import metrics
from kolbo_demo.service.errors import ApiError
from kolbo_demo.service.supervisor import database_unavailable

_HTTP_MESSAGES = {
    HTTPStatus.NOT_FOUND: "There is no such address in this API; see Kolbo's documentation.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This address takes another method; see Kolbo's documentation.",
}


def json_reply(model: BaseModel, *, keep_null: bool = False) -> Response:
    """A model as an uncached JSON response, without its None fields unless `keep_null`."""
    return JSONResponse(
        model.model_dump(mode="json", exclude_none=not keep_null),
        headers={"Cache-Control": "no-store"},
    )


def add_error_handlers(app: FastAPI) -> None:
    """Turn every error of the app's routes into an `ErrorReply`."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(SQLAlchemyError, _database_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(Exception, _unexpected_error)


def _error_reply(error: ApiError) -> JSONResponse:
    metrics.refused(error.code, error.status)
    return JSONResponse(
        ErrorReply.of(error.code, error.message).model_dump(),
        status_code=error.status,
        headers=error.headers,
    )


async def _api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _error_reply(error)


async def _database_error(_: Request, __: Exception) -> Response:
    return _error_reply(database_unavailable("fails"))


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    message = _HTTP_MESSAGES.get(status, f"{status.phrase}.")
    return _error_reply(ApiError(status, status.name, message, error.headers))


async def _validation_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    field = ".".join(str(part) for part in error.errors()[0]["loc"][1:])
    return _error_reply(ApiError(400, "INVALID_REQUEST", f"{field} is not what it should be."))


async def _unexpected_error(_: Request, __: Exception) -> Response:
    return _error_reply(
        ApiError(
            500,
            "GENERATION_ERROR",
            "The service failed at this request; try again, and if it fails again look at its log.",
        )
    )
