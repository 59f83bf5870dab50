"""Collectives of training, each an identity when there is one process.

The gradient contract. Passages are gathered *with* gradient, queries stay local, and a worker's loss is
``world_size * sum of its loss_Q / number of queries on all workers`` (``scale_loss``); the mean of the
workers' gradients times ``queries / valid queries`` (``average_gradients``) is then the gradient of the mean
loss over the valid queries, however unevenly queries, passages and skipped rows fall on workers and
accumulated batches. Multiplying the mean loss by the world size instead would double the gradient at two
workers, which AdamW hides and clipping does not.

All workers call the same collectives in the same order, in the backward pass too: a worker without
passages has to pass an empty tensor that requires gradient.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from winnow.errors import WinnowError

ResultT = TypeVar("ResultT")


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def process_rank() -> int:
    """Which of them this one is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def gather_rows(rows_ND: Tensor, counts: Sequence[int]) -> Tensor:
    """The rows of all workers in the order of their ranks, with gradient. ``counts`` are their numbers of rows."""
    return rows_ND if world_size() == 1 else _GatherRows.apply(rows_ND, list(counts))


def scale_loss(loss_V: Tensor, num_queries: int) -> Tensor:
    """This worker's share of the loss; ``num_queries`` counts those of all workers and accumulated batches."""
    return world_size() * loss_V.sum() / num_queries


def sum_over_workers(values: Sequence[float], device: torch.device) -> list[float]:
    """Element-wise sums over all workers, which are the same number on each of them."""
    if world_size() == 1:
        return list(values)
    total = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return total.tolist()


def average_gradients(parameters: Sequence[nn.Parameter], *, factor: float = 1.0) -> None:
    """Replace every gradient by ``factor`` times its mean over the workers.

    One collective over a flat buffer after the backward pass, and not DDP: the module runs several times
    per step (queries, passages, buckets by length), on some workers perhaps never, and DDP's hooks expect
    one forward pass on each. What DDP would overlap is small beside that freedom.
    """
    for parameter in parameters:
        # Also where nothing used it: the optimizer treats what has no gradient in another way.
        parameter.grad = _gradient(parameter)
    if world_size() == 1 and factor == 1.0:
        return
    flat = torch.cat([parameter.grad.reshape(-1) for parameter in parameters])
    if world_size() > 1:
        dist.all_reduce(flat)
    flat *= factor / world_size()
    pieces = flat.split([parameter.numel() for parameter in parameters])
    for parameter, piece in zip(parameters, pieces, strict=True):
        parameter.grad = piece.view_as(parameter).to(parameter.dtype)


def same_on_all_workers(value: int, device: torch.device) -> int:
    """``value`` of rank 0, which every worker goes by."""
    if world_size() == 1:
        return value
    holder = torch.tensor([value], dtype=torch.int64, device=device)
    dist.broadcast(holder, src=0)
    return int(holder.item())


def on_first_worker(action: Callable[[], object], device: torch.device) -> None:
    """Rank 0 does ``action``. If it fails, every worker raises, so that none waits for the others for ever."""
    failure: Exception | None = None
    if process_rank() == 0:
        try:
            action()
        except Exception as error:
            failure = error
    if same_on_all_workers(int(failure is None), device) == 0:
        raise failure or WinnowError("the first worker failed; its error says why")


def on_every_worker(action: Callable[[], ResultT], device: torch.device) -> ResultT:
    """What ``action`` gives here. If it fails on one worker, all raise, so that none waits for it for ever."""
    result, failure = None, None
    try:
        result = action()
    except Exception as error:
        failure = error
        print(f"train: worker {process_rank()} failed: {error}", flush=True)
    (num_failed,) = sum_over_workers([float(failure is not None)], device)
    if num_failed:
        raise failure or WinnowError(f"{num_failed:.0f} other workers failed; their own messages say why")
    return cast(ResultT, result)


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


class _GatherRows(torch.autograd.Function):
    """Forward: concatenate the workers' rows. Backward: sum the workers' gradients, keep one's own rows."""

    @staticmethod
    def forward(ctx: Any, rows_ND: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        widest = max(counts)
        padded = rows_ND.new_zeros(widest, rows_ND.shape[1])
        padded[: len(rows_ND)] = rows_ND
        gathered = rows_ND.new_empty(widest * len(counts), rows_ND.shape[1])
        dist.all_gather_single(gathered, padded)
        return torch.cat([gathered[rank * widest :][:count] for rank, count in enumerate(counts)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient_PD = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient_PD)
        return gradient_PD.split(ctx.counts)[process_rank()], None
