"""Servers of tests and benchmarks end with the run, even if it is killed."""

import os
import subprocess
import sys
from pathlib import Path

from tests.waiting import wait

ROOT = Path(__file__).parents[1]
RUN = """
import subprocess, sys
from benchmarks.process_stats import bound_to_caller
server = subprocess.Popen(bound_to_caller("sleep", "600"))
print(server.pid, flush=True)
sys.stdin.read()
"""


def test_a_server_ends_with_a_run_that_is_killed() -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", RUN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert run.stdout
    server = int(run.stdout.readline())
    wait(lambda: Path(f"/proc/{server}/comm").read_text() == "sleep\n")
    run.kill()
    run.communicate()
    wait(lambda: not Path(f"/proc/{server}/exe").exists())  # a zombie has none
