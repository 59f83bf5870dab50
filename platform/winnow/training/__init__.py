"""The training loop: torch.distributed allowed, Ray not."""

from winnow.machine import share_cores

# torch reads it when it is imported, which `python -m winnow.training` does next.
share_cores()
