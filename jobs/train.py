"""Train the encoder on the labels; resumes from its last checkpoint.

ray job submit --runtime-env jobs/runtime_env.yaml -- \
    python jobs/train.py --config examples/pydocs/run.yaml --set output=/mnt/winnow/runs
"""

from winnow.cli import main

if __name__ == "__main__":
    main("train")
