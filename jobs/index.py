"""Encode the corpus and build the index of the retriever version.

ray job submit --runtime-env jobs/runtime_env.yaml -- \
    python jobs/index.py --config examples/pydocs/run.yaml --set output=/mnt/winnow/runs
"""

from winnow.cli import main

if __name__ == "__main__":
    main("index")
