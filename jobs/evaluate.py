"""Measure BM25, the encoder before training and the trained retriever; register the version.

ray job submit --runtime-env jobs/runtime_env.yaml -- \
    python jobs/evaluate.py --config examples/pydocs/run.yaml --set output=/mnt/winnow/runs
"""

from winnow.cli import main

if __name__ == "__main__":
    main("evaluate")
