"""Unite BM25 and dense ranked lists into candidate pools.

ray job submit --runtime-env jobs/runtime_env.yaml -- \
    python jobs/pool.py --config examples/pydocs/run.yaml --set output=/mnt/winnow/runs
"""

from winnow.cli import main

if __name__ == "__main__":
    main("pool")
