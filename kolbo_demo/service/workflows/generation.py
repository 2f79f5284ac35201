"""The workflow of one generation: fetch linked files, render, store the result.

dbos records each step, so that a resumed workflow does not repeat it.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dbos import DBOS
from sqlalchemy.exc import SQLAlchemyError

from kolbo_demo import logs
from kolbo_demo.contract import COMPLETED, FAILED
from kolbo_demo.credentials.manifest import rendered
from kolbo_demo.media.sniff import kind_of
from kolbo_demo.service import fetch, metrics, progress, render_pool
from kolbo_demo.service.errors import JobError
from kolbo_demo.service.jobs import Job, Outcome, PlanProperties, VideoProperties
from kolbo_demo.service.storage.files import (
    input_name,
    plan_name,
    thumbnail_name,
    video_name,
)
from kolbo_demo.service.workflows import context, segments
from kolbo_demo.service.workflows.context import ShutdownError
from kolbo_demo.service.workflows.postpone import Postponed, postpone_on_storage_error
from kolbo_demo.service.workflows.steps import step

PROGRESS_INTERVAL_SECONDS = 0.5


class _CancelledError(Exception):
    """The generation was cancelled or taken over while a file was fetched."""


@DBOS.workflow(name=context.GENERATIONS, max_recovery_attempts=context.MAX_ATTEMPTS)
def run(document: dict[str, Any]) -> dict[str, Any]:
    """Run the generation of a `Job`. Returns an `Outcome`: video, failure, or neither if
    cancelled."""
    return _run(Job.from_json(document)).to_json()


def _run(job: Job) -> Outcome:
    ctx, generation = context.current(), str(DBOS.workflow_id)
    with logs.generation_context(generation):
        metrics.begun(max(0.0, time.time() - job.created))
        with (
            _discard_on_error(generation, job),
            ctx.track(generation),
            postpone_on_storage_error(generation),
        ):
            outcome = _fetch(job)
            if not outcome.failure:
                outcome = _render(job)
            if outcome.plan:
                segments.enqueue(generation, outcome.plan.segments)
                outcome = _join(job, outcome.plan)
        ctx.discard(generation, None if outcome.video else job.file_stem)
        if outcome.video:
            metrics.ended(generation, COMPLETED)
        elif outcome.failure:  # `cancel` counts cancelled ones
            metrics.ended(generation, FAILED, outcome.failure.code)
        return outcome


@DBOS.workflow(name="listen")
def _listen(_generation: str) -> bool:
    """Does nothing: earlier releases may have left such workflows in the queue."""
    return False


@step("fetch")
def _fetch(job: Job) -> Outcome:
    """Store linked files as inputs. The outcome is a failure or empty."""
    generation = str(DBOS.workflow_id)
    links: list[tuple[fetch.Field, str | None]]
    links = [("source", job.source_url), ("audio", job.audio_url)]
    for field, link in links:
        if link:
            try:
                with postpone_on_storage_error(generation), metrics.stage("fetch"):
                    _fetch_link(link, field, generation)
            except JobError as error:
                return Outcome(failure=error.failure)
            except _CancelledError:
                break
    return Outcome()


@step("render")
def _render(job: Job) -> Outcome:
    """Render the video, or plan a long one for segments."""
    ctx, generation = context.current(), str(DBOS.workflow_id)
    storage = ctx.storage
    try:
        should_continue = context.watch(generation)
        with (
            ctx.render_slot(job, should_continue),
            postpone_on_storage_error(generation),
            storage.workspace(generation) as folder,
        ):
            plan = folder / "plan.npz"
            task = render_pool.RenderTask(
                source=storage.checkout(input_name(generation, "source"), folder),
                audio=storage.checkout(input_name(generation, "audio"), folder),
                video=folder / "video.mp4",
                thumbnail=folder / "thumbnail.jpg",
                options=job.options,
                workers=ctx.cores,
                plan=plan if ctx.shared else None,
                preview=storage.preview_file(generation),
            )
            with metrics.stage("render"):
                outcome = ctx.render_pool.run(
                    task,
                    storage.allowed_files(generation, create_parts=ctx.shared),
                    _progress_recorder(generation),
                    should_continue,
                    generation=generation,
                )
            if outcome.empty or not should_continue():
                return Outcome()
            if outcome.plan:
                storage.publish(plan, plan_name(generation))
            elif outcome.video:
                _store_result(job, folder, outcome.video)
    except JobError as error:
        return Outcome(failure=error.failure)
    return outcome


@step("join")
def _join(job: Job, plan: PlanProperties) -> Outcome:
    """Join rendered segments."""
    generation = str(DBOS.workflow_id)
    storage = context.current().storage
    try:
        should_continue = context.watch(generation)
        with (
            postpone_on_storage_error(generation),
            storage.workspace(generation) as folder,
        ):
            on_progress = _progress_recorder(generation)
            outcome = segments.join(generation, folder, plan, on_progress, should_continue)
            if outcome.empty or not should_continue():
                return Outcome()
            if outcome.video:
                _store_result(job, folder, outcome.video)
    except JobError as error:
        return Outcome(failure=error.failure)
    return outcome


@contextlib.contextmanager
def _discard_on_error(generation: str, job: Job) -> Iterator[None]:
    """Delete the files of a generation that fails by a bug or is cancelled in the block."""
    ctx = context.current()
    try:
        yield
    except Exception:  # a bug, which dbos records as the outcome
        ctx.discard(generation, job.file_stem)
        metrics.ended(generation, FAILED, context.GENERATION_FAILED.code)
        raise
    except Postponed:
        raise
    except BaseException:  # cancelled or taken over, as dbos reports it, or a shutdown
        with contextlib.suppress(ShutdownError):
            if context.is_cancelled(generation):
                ctx.discard(generation, job.file_stem)
        raise


def _fetch_link(link: str, field: fetch.Field, generation: str) -> None:
    ctx, should_continue = context.current(), context.watch(generation)
    with ctx.storage.create(input_name(generation, field)) as file:
        fetch.fetch(link, field, file, ctx.policy, should_continue)
        if not should_continue():
            raise _CancelledError
        metrics.count_bytes("fetched", file.tell())


def _store_result(job: Job, folder: Path, properties: VideoProperties) -> None:
    """Sign the video in a workspace, and publish it with its thumbnail as the job's result."""
    ctx, generation = context.current(), str(DBOS.workflow_id)
    storage, video = ctx.storage, folder / "video.mp4"
    with metrics.stage("sign"):
        source = storage.checkout(input_name(generation, "source"), folder)
        audio = storage.checkout(input_name(generation, "audio"), folder)
        clip = kind_of(source) == "video"
        mark = properties.visible_mark
        ctx.signer.sign(video, rendered(source, audio, clip=clip, visible_mark=mark))
    metrics.count_bytes("made", video.stat().st_size)
    with metrics.stage("store"):
        storage.publish(video, video_name(job.file_stem))
        storage.publish(folder / "thumbnail.jpg", thumbnail_name(job.file_stem))


def _progress_recorder(generation: str) -> Callable[[int, int], None]:
    """An `on_progress` that records the generation's progress."""
    recorded, due = progress.percent(generation), 0.0

    def on_progress(done: int, total: int) -> None:
        nonlocal recorded, due
        percent = min(99, 100 * done // max(1, total))
        # A resumed render starts again: its progress must not fall.
        if percent > recorded and time.monotonic() >= due:
            with contextlib.suppress(SQLAlchemyError):  # no reason to end the render
                progress.record_percent(percent)
            recorded, due = percent, time.monotonic() + PROGRESS_INTERVAL_SECONDS

    return on_progress
