"""Real processes: an owner with a child that would not end by itself, and what becomes of the child."""

import signal
import subprocess
import sys

import psutil
import pytest

OWNER = """
import subprocess, sys, time
from winnow.engines.leftovers import ChildWatch
import os

watch = ChildWatch(os.getpid(), grace_s=0.2)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(1.5)  # the watch looks twice a second
print("seen", flush=True)
if sys.argv[1] == "close":
    watch.close()
    print("closed", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(("how", "child_ends"), [("kill", True), ("close", False)])
def test_children_end_with_their_owner_however_it_ends_unless_the_engine_was_closed(how, child_ends):
    owner = subprocess.Popen([sys.executable, "-c", OWNER, how], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(owner.stdout.readline()))
    try:
        for _ in range(1 if how == "kill" else 2):
            assert owner.stdout.readline().strip() in ("seen", "closed")
        owner.send_signal(signal.SIGKILL)
        gone, _ = psutil.wait_procs([child], timeout=10 if child_ends else 2)
    finally:
        owner.kill()
        owner.wait()
        if child.is_running():
            child.kill()

    assert (len(gone) == 1) is child_ends
