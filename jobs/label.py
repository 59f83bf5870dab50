"""Turn the judge's evidence into positives and hard negatives.

ray job submit --runtime-env jobs/runtime_env.yaml -- \
    python jobs/label.py --config examples/pydocs/run.yaml --set output=/mnt/winnow/runs
"""

from winnow.cli import main

if __name__ == "__main__":
    main("label")
