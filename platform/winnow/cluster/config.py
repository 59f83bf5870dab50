"""How much of a cluster, or of this machine, a run may use. Nothing here changes a result."""

from typing import Literal

from winnow.config import Config, speed_knob

SMALLEST_STORE_MB = 100
"""Ray refuses a store of less than 75 MiB."""


class ClusterConfig(Config):
    """The local Ray that is started when no cluster is joined. ``RAY_ADDRESS`` joins one."""

    num_cpus: int | None = speed_knob(None, ge=1)
    """CPUs of the local Ray; all cores by default."""

    object_store_mb: int = speed_knob(512, ge=SMALLEST_STORE_MB)
    """Object store of the local Ray. Data streams through it in blocks, so it need not hold a corpus."""

    encoder_actors: tuple[int, int] = speed_knob((1, 1))
    """Fewest and most encoder actors; each holds one encoder."""

    encoder_cpus: int = speed_knob(1, ge=1)
    """CPUs that each encoder actor reserves."""

    encoder_gpus: float = speed_knob(0, ge=0)
    """GPUs that each encoder actor reserves."""

    encoder_threads: int = speed_knob(2, ge=1)
    """Threads of each encoder actor on a CPU."""

    search_device: Literal["cpu", "cuda"] = speed_knob("cpu")
    """Where pooling, mining and evaluation compare vectors; ``cuda`` needs room for the corpus's vectors on one GPU."""
