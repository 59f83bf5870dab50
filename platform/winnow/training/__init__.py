"""The training loop: torch.distributed allowed, Ray not."""
