"""Processes that an engine started end with the process that holds it, however that ends.

vLLM starts one process per GPU where a model is spread over several. They notice that their parent is gone between two
steps, not while they load a model or wait for each other. So another small process looks on, and when their parent has
ended it ends them, by process id.
"""

import subprocess
import sys

_GRACE_S = 10.0
# psutil knows a process by its id and the time it began, so that no other one is ended. The owner's end is seen by the
# pipe at once, or within a second where a child that was forked holds the pipe open.
_PROGRAM = """
import select, sys
import psutil

owner, known = psutil.Process(int(sys.argv[1])), set()
try:
    while owner.is_running() and owner.status() != psutil.STATUS_ZOMBIE:
        known |= set(owner.children(recursive=True)) - {psutil.Process()}
        if select.select([sys.stdin], [], [], 0.5)[0]:
            break
except psutil.NoSuchProcess:
    pass
if select.select([sys.stdin], [], [], 0)[0] and sys.stdin.read(1):
    sys.exit()  # the engine was closed, and has ended them itself
_, left = psutil.wait_procs([each for each in known if each.is_running()], timeout=float(sys.argv[2]))
for each in left:
    each.kill()
"""


class ChildWatch:
    """Looks on until ``close``. If process ``owner`` ends before, its children have ``grace_s`` to end too."""

    def __init__(self, owner: int, *, grace_s: float = _GRACE_S) -> None:
        command = [sys.executable, "-c", _PROGRAM, str(owner), str(grace_s)]
        # A session of its own: a signal to the owner's group must not end it first.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def close(self) -> None:
        """Look on no longer."""
        self._process.communicate(b".")
