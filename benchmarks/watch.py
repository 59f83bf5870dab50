"""Run a command and say how long it took and how much memory its process tree held at most.

python benchmarks/watch.py -- make demo

Memory is PSS: pages that processes share are counted once. Linux only; the tree is read twice a second.
"""

import os
import subprocess
import sys
import time

import psutil

_INTERVAL_S = 0.5


def main(command: list[str]) -> int:
    """The exit code of ``command``, after a line with seconds, peak PSS and the machine's load."""
    started = time.monotonic()
    process = subprocess.Popen(command)
    peak = 0
    while process.poll() is None:
        peak = max(peak, _pss(psutil.Process(process.pid)))
        time.sleep(_INTERVAL_S)
    seconds = time.monotonic() - started
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"watch: {' '.join(command)}: {seconds:.0f} s, peak {peak / 2**30:.2f} GiB PSS, load {load}", flush=True)
    return process.returncode


def _pss(root: psutil.Process) -> int:
    total = 0
    try:
        tree = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in tree:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended while we looked
    return total


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] != "--":
        sys.exit(__doc__)
    sys.exit(main(sys.argv[2:]))
