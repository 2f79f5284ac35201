"""Workers on one PostgreSQL: speedup of a long generation on two, and overhead of the queue.

The page accepts requests and renders nothing; each worker renders in one process on one core. All
share this machine, so page, database and callers use the same cores.
"""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from operator import truediv
from pathlib import Path
from statistics import median
from typing import Any

import psycopg

from benchmarks.cluster import Cluster, Postgres
from benchmarks.media import PORTRAIT, make_clip, make_voice
from benchmarks.process_stats import cpu_seconds, memory_mb
from kolbo_demo.client import Generation, KolboClient
from kolbo_demo.options import Options
from kolbo_demo.service.job_queue import JobQueue
from kolbo_demo.service.jobs import Job
from kolbo_demo.service.progress import new_id
from kolbo_demo.service.storage.files import input_name
from kolbo_demo.settings import Settings

SIZES = {"512x512": (512, 512), "1920x1080": (1920, 1080)}
"""Of clips, in pixels: the larger, the smaller the share of planning."""
ROUNDS = {"512x512": 5, "1920x1080": 1}
"""Alternating runs on one worker, on two, and on two independent ones: a machine's speed may change
by a quarter within a minute."""
QUEUED = (1, 10, 100, 1000)
MEASURED_JOBS = 6
"""At most so many jobs of a queue are measured."""
MIN_SPEEDUP = 1.5
"""Of two workers with a core each."""
MAX_QUEUE_MS = 20.0
"""To enqueue a job and to read its status, for any length of the queue."""
MAX_IDLE_MS = 600.0
"""Of a worker between two jobs: its polling interval."""
STATUS_POLL_SECONDS = 1.0
"""Infrequent, so as not to disturb the measurement."""
_IDLE_SECONDS = 10.0
_TIMINGS_QUERY = """
SELECT min(whole.created_at), min(whole.started_at_epoch_ms), min(whole.completed_at),
       min(part.created_at), max(part.completed_at),
       sum(part.completed_at - part.started_at_epoch_ms)
FROM dbos.workflow_status AS whole, dbos.workflow_status AS part
WHERE whole.name = 'lipsync' AND part.name = 'segment'
"""


def measure() -> dict[str, Any]:
    postgres = Postgres()
    try:
        return {
            "clip_60_s": {
                "a_core_each": {
                    name: _compare_workers(postgres, name, rounds)
                    for name, rounds in ROUNDS.items()
                },
                "any_core": {
                    workers: _measure_workers(postgres, workers, SIZES["512x512"], pinned=False)[
                        "seconds"
                    ]
                    for workers in (1, 2)
                },
                "target": MIN_SPEEDUP,
            },
            "idle": _measure_idle(postgres),
            "queue": [_measure_queue(postgres, count) for count in QUEUED],
        }
    finally:
        postgres.remove()


def missed(figures: dict[str, Any]) -> list[str]:
    misses = []
    for size, compared in figures["clip_60_s"]["a_core_each"].items():
        if (ratio := compared["times_as_fast"]) < MIN_SPEEDUP:
            misses.append(f"two workers are {ratio} times as fast as one on a clip of {size}")
    for row in figures["queue"]:
        slow = max(row["accept_ms"], row["status_ms"])
        if slow > MAX_QUEUE_MS:
            misses.append(f"{slow} ms a job where {row['queued']} are queued")
        if row["queued"] > 1 and row["idle_ms"] > MAX_IDLE_MS:
            misses.append(f"{row['idle_ms']} ms between jobs where {row['queued']} are queued")
    return misses


def _compare_workers(postgres: Postgres, size: str, rounds: int) -> dict[str, Any]:
    """One worker against two on a clip of a size, each on a core of its own. Times are of median
    runs, speedups are medians over rounds, since runs of one round meet the same load.

    The floor is the time of two workers without any waiting: half of what one takes while the other
    core is as busy. "On equal cores" compares two workers with that one, because the cores of a
    virtual machine slow each other down by up to a half.
    """
    runs: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    independent = []
    for _ in range(rounds):
        for workers, results in runs.items():
            results.append(_measure_workers(postgres, workers, SIZES[size], pinned=True))
        independent.append(_measure_independent(postgres, SIZES[size]))
    one, two = (sorted(of, key=lambda run: run["seconds"])[rounds // 2] for of in runs.values())
    alone, shared = ([run["seconds"] for run in of] for of in runs.values())
    return {
        "workers": {1: one, 2: two},
        "times_as_fast": round(median(map(truediv, alone, shared)), 2),
        "times_as_fast_on_equal_cores": round(median(map(truediv, independent, shared)), 2),
        "floor_seconds": round(median(independent) / 2, 1),
        "times_the_floor": round(
            median(2 * s / a for s, a in zip(shared, independent, strict=True)), 2
        ),
        "each_round": [
            [of_one, of_two, round(busy, 1)]
            for of_one, of_two, busy in zip(alone, shared, independent, strict=True)
        ],
    }


@contextlib.contextmanager
def _new_cluster(postgres: Postgres) -> Iterator[tuple[Cluster, Path]]:
    folder = Path(tempfile.mkdtemp(prefix="kolbo-scale-"))
    site = Cluster(postgres, str(folder / "shared"), folder)
    try:
        yield site, folder
    finally:
        site.close()
        shutil.rmtree(folder)


def _measure_workers(
    postgres: Postgres, workers: int, size: tuple[int, int], pinned: bool
) -> dict[str, Any]:
    """One minute of a clip on so many workers: seconds from acceptance to completion, by phase, and
    database transactions."""
    with _new_cluster(postgres) as (site, folder):
        _, base = site.start_page()
        machines = site.start_workers(workers, pinned=pinned)
        spoken, clip = _minute_inputs(folder, size)
        before, used = _database_counters(site), sum(cpu_seconds(each.pid) for each in machines)
        _wait_for_all([KolboClient("test-key", base).lipsync(clip, spoken)])
        spent = _difference(before, _database_counters(site))
        [(accepted, begun, ended, cut, made_all, at_work)] = site.query(_TIMINGS_QUERY)
        results = sum(file.stat().st_size for file in Path(site.storage, "results").iterdir())
        return {
            "seconds": round((ended - accepted) / 1000, 1),
            "until_begun": round((begun - accepted) / 1000, 1),
            "planning": round((cut - begun) / 1000, 1),
            "segments": round((made_all - cut) / 1000, 1),
            "at_work_on_segments": round(float(at_work) / 1000 / workers, 1),
            "joining": round((ended - made_all) / 1000, 1),
            "processor_seconds": round(sum(cpu_seconds(each.pid) for each in machines) - used, 1),
            "result_megabytes": round(results / 1e6, 1),
        } | spent


def _measure_independent(postgres: Postgres, size: tuple[int, int]) -> float:
    """Mean seconds from acceptance to completion on two workers of two clusters, each with its own
    core and the same work."""
    with _new_cluster(postgres) as (here, folder), _new_cluster(postgres) as (there, other):
        apis = [KolboClient("test-key", site.start_page()[1]) for site in (here, there)]
        for core, site in enumerate((here, there)):
            site.start_workers(1, pinned=True, first=core)
        inputs = [_minute_inputs(place, size) for place in (folder, other)]
        _wait_for_all([api.lipsync(c, v) for api, (v, c) in zip(apis, inputs, strict=True)])
        return sum(
            (ended - accepted) / 2000
            for site in (here, there)
            for accepted, _, ended, *_ in site.query(_TIMINGS_QUERY)
        )


def _minute_inputs(folder: Path, size: tuple[int, int]) -> tuple[Path, Path]:
    return make_voice(folder / "voice.wav", 60), make_clip(folder, *size)


def _wait_for_all(generations: list[Generation]) -> None:
    for generation in generations:
        while (status := generation.status()).state == "processing":
            time.sleep(STATUS_POLL_SECONDS)
        if status.state != "completed":
            raise RuntimeError(f"the generation is {status.state}: {status.error}")


def _measure_idle(postgres: Postgres) -> dict[str, float]:
    """Database load per second and memory of an idle worker."""
    with _new_cluster(postgres) as (site, _):
        [worker] = site.start_workers(1)
        time.sleep(3)
        before = _database_counters(site)
        time.sleep(_IDLE_SECONDS)
        spent = _difference(before, _database_counters(site))
        return {
            "transactions_a_second": round(spent["transactions"] / _IDLE_SECONDS, 1),
            "rows_written_a_second": round(spent["rows_written"] / _IDLE_SECONDS, 1),
            "megabytes": round(memory_mb(worker.pid)),
        }


def _measure_queue(postgres: Postgres, count: int) -> dict[str, float]:
    """Overhead of a job in milliseconds with so many queued.

    `accept` is to enqueue a job, `status` to read its status, `idle` the worker's pause before it:
    from the end of the previous job (for the first: from acceptance) to its start.
    """
    with _new_cluster(postgres) as (site, folder):
        site.start_workers(1)
        settings = Settings.model_validate(
            {
                "data_dir": folder / "page",
                "database_url": site.url,
                "storage_url": site.storage,
            }
        )
        jobs = JobQueue(settings, renders=False)
        jobs.start()
        try:
            source, voice = _short_inputs(folder)
            ids = [new_id() for _ in range(count)]
            for generation in ids[:MEASURED_JOBS]:
                for field, path in (("source", source), ("audio", voice)):
                    with jobs.storage.create(input_name(generation, field)) as file:
                        file.write(path.read_bytes())
            accept = _median_ms(lambda name: jobs.submit(name, Job(Options())), ids)
            status = _median_ms(jobs.find, ids[-MEASURED_JOBS:])
            last = ids[:MEASURED_JOBS][-1]
            deadline = time.monotonic() + 120
            while (found := jobs.find(last)) and found.state == "processing":
                if time.monotonic() > deadline:
                    raise RuntimeError("the queue does not progress")
                time.sleep(0.1)
            idle = _median_idle_ms(site)
            for generation in ids[MEASURED_JOBS:]:
                jobs.cancel(generation)
        finally:
            jobs.stop()
        return {
            "queued": count,
            "accept_ms": round(accept, 2),
            "status_ms": round(status, 2),
            "idle_ms": round(idle),
        }


def _median_idle_ms(site: Cluster) -> float:
    """Median pause of a worker before a job, in milliseconds."""
    rows = site.query(
        "SELECT created_at, started_at_epoch_ms, completed_at FROM dbos.workflow_status "
        "WHERE status = 'SUCCESS' ORDER BY started_at_epoch_ms"
    )
    ends = [0, *(ended for _, _, ended in rows)]
    return median(
        started - max(created, end)
        for (created, started, _), end in zip(rows, ends[:-1], strict=True)
    )


def _median_ms(call: Any, names: list[str]) -> float:
    """Median milliseconds of a call for each name."""
    times = []
    for name in names:
        start = time.perf_counter()
        call(name)
        times.append((time.perf_counter() - start) * 1000)
    return median(times)


def _short_inputs(folder: Path) -> tuple[Path, Path]:
    """A portrait, and half a second of speech."""
    return PORTRAIT, make_voice(folder / "short.wav", 0.5)


def _database_counters(site: Cluster) -> tuple[int, int]:
    """Transactions and rows written so far."""
    time.sleep(1.1)  # backends report what they did once a second
    with psycopg.connect(site.url) as connection:
        row = connection.execute(
            "SELECT xact_commit + xact_rollback, tup_inserted + tup_updated + tup_deleted "
            "FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    return row[0], row[1]


def _difference(before: tuple[int, int], after: tuple[int, int]) -> dict[str, int]:
    return {"transactions": after[0] - before[0], "rows_written": after[1] - before[1]}
