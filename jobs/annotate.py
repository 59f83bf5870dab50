"""Let the LLM judge every candidate of every question; resumes where it stopped.

ray job submit --runtime-env jobs/runtime_env.yaml -- \
    python jobs/annotate.py --config examples/pydocs/run.yaml --set output=/mnt/winnow/runs
"""

from winnow.cli import main

if __name__ == "__main__":
    main("annotate")
