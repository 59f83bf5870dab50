"""Say whether the judge's labels can be trusted.

ray job submit --runtime-env jobs/runtime_env.yaml -- \
    python jobs/audit.py --config examples/pydocs/run.yaml --set output=/mnt/winnow/runs
"""

from winnow.cli import main

if __name__ == "__main__":
    main("audit")
