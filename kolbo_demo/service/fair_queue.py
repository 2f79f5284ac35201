"""Fair queueing: callers are served in rotation, however much each has submitted.

The dbos priority of a generation is its turn: the n-th of one caller comes after the (n-1)-th of
every other. Spare slots keep long renders from delaying a caller with nothing running. The caller
is stored in dbos's documented table as the partition key.
"""

from functools import cache
from typing import Any

import sqlalchemy as sa

from kolbo_demo.service.workflows import context

SPARE_QUEUE = "next"
"""Queue of the spare slots."""
MAX_TURN = 2**31 - 2
RECENT_GENERATIONS = 1000
"""Number of newest generations that determine the current turn, to bound the query."""
_UNFINISHED = ("ENQUEUED", "PENDING")


_CALLER = sa.bindparam("caller")


@cache
def _table(schema: str | None) -> sa.TableClause:
    names = (
        "workflow_uuid",
        "name",
        "status",
        "priority",
        "queue_name",
        "queue_partition_key",
        "created_at",
    )
    return sa.table("workflow_status", *map(sa.column, names), schema=schema)


def _schema(engine: sa.Engine) -> str | None:
    return None if engine.dialect.name == "sqlite" else "dbos"


def _own_unfinished(rows: Any) -> sa.ColumnElement[bool]:
    return sa.and_(
        rows.name == context.GENERATIONS,
        rows.status.in_(_UNFINISHED),
        rows.queue_partition_key == _CALLER,
    )


def unfinished(engine: sa.Engine, caller: str) -> int:
    """Number of a caller's generations that wait or run. Raises SQLAlchemyError."""
    with engine.connect() as connection:
        query = _unfinished_query(_schema(engine))
        return connection.execute(query, {"caller": caller}).scalar_one()


@cache  # building a query takes longer than running it
def _unfinished_query(schema: str | None) -> sa.Select[Any]:
    return sa.select(sa.func.count()).where(_own_unfinished(_table(schema).c))


def next_turn(engine: sa.Engine, caller: str) -> int:
    """Turn of a caller's next generation. Raises SQLAlchemyError."""
    with engine.connect() as connection:
        query = _turns_query(_schema(engine))
        under_way, last, last_waiting = connection.execute(query, {"caller": caller}).one()
    # Turns cannot be saved up: the earliest possible one is the round under way.
    turn = max(under_way or 1, (last or 0) + 1, (last_waiting or 0) + 1)
    return min(turn, MAX_TURN)


@cache
def _turns_query(schema: str | None) -> sa.Select[Any, Any, Any]:
    """The round under way, and a caller's last turn of the recent ones and of those that wait."""
    rows = _table(schema).c
    latest = (
        sa.select(rows.priority, rows.status, rows.queue_partition_key)
        .where(rows.name == context.GENERATIONS)
        .order_by(rows.created_at.desc())
        .limit(RECENT_GENERATIONS)
        .subquery()
        .c
    )
    waiting = sa.select(sa.func.max(rows.priority)).where(_own_unfinished(rows))
    begun = sa.case((latest.status != "ENQUEUED", latest.priority))
    own = sa.case((latest.queue_partition_key == _CALLER, latest.priority))
    return sa.select(sa.func.max(begun), sa.func.max(own), waiting.scalar_subquery())


def fill_spare_slots(engine: sa.Engine, ordinary_slots: int, spare_slots: int) -> None:
    """Fill free spare slots with generations of callers that have nothing running, if all ordinary
    slots are taken. To be called about once a second. Raises SQLAlchemyError."""
    table = _table(_schema(engine))
    rows, caller = table.c, table.c.queue_partition_key
    ordinary = sa.and_(rows.name == context.GENERATIONS, rows.queue_name == context.GENERATIONS)
    waits = sa.and_(ordinary, rows.status == "ENQUEUED", caller.is_not(None))
    spare = sa.and_(rows.queue_name == SPARE_QUEUE, rows.status.in_(_UNFINISHED))
    busy = sa.or_(sa.and_(ordinary, rows.status == "PENDING"), spare)
    with engine.begin() as connection:
        under_way = connection.execute(sa.select(caller, rows.queue_name).where(busy)).all()
        callers = {name for name, _ in under_way}
        taken = sum(queue == SPARE_QUEUE for _, queue in under_way)
        if len(under_way) - taken < ordinary_slots or taken >= spare_slots:
            return
        next_callers = (
            sa.select(caller)
            .where(waits, caller.not_in(callers - {None}))
            .group_by(caller)
            .order_by(sa.func.min(rows.priority), sa.func.min(rows.created_at))
            .limit(spare_slots - taken)
        )
        for name in connection.execute(next_callers).scalars().all():
            waiting = sa.select(rows.workflow_uuid).where(waits, caller == name)
            workflow = waiting.order_by(rows.priority, rows.created_at).limit(1).scalar_subquery()
            # Conditional, since other processes dequeue meanwhile.
            move = sa.update(table).where(waits, rows.workflow_uuid == workflow)
            connection.execute(move.values(queue_name=SPARE_QUEUE))
