"""All steps, from raw text to a measured and registered retriever.

ray job submit --runtime-env jobs/runtime_env.yaml -- \
    python jobs/run.py --config examples/pydocs/run.yaml --set output=/mnt/winnow/runs
"""

from winnow.cli import main

if __name__ == "__main__":
    main("run")
