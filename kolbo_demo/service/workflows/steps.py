"""Steps of workflows, whose outcomes dbos records."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from dbos import DBOS

from kolbo_demo.service.jobs import Outcome

P = ParamSpec("P")


def step(name: str) -> Callable[[Callable[P, Outcome]], Callable[P, Outcome]]:
    """Decorator of a dbos step. Its outcome is recorded as JSON."""

    def decorate(function: Callable[P, Outcome]) -> Callable[P, Outcome]:
        @DBOS.step(name=name)
        def recorded(*args: P.args, **kwargs: P.kwargs) -> dict[str, object]:
            return function(*args, **kwargs).to_json()

        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> Outcome:
            return Outcome.from_json(recorded(*args, **kwargs))

        return run

    return decorate
