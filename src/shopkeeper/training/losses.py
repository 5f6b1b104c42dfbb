"""Softmax cross-entropy over a catalogue without ever keeping the (rows, items) matrix.

Both gradients are computed in the forward pass, some rows at a time, because the matrix of a few
hundred rows fits the processor's cache and the whole one would not.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 256  # rows of logits at a time; measured fastest for 12k items on AVX-512
_HALF = torch.bfloat16


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: Tensor, table: Tensor, bias: Tensor, targets: Tensor, half: bool
    ) -> Tensor:
        count = states.shape[0]
        left = states.detach().to(_HALF) if half else states.detach()
        right = table.detach().to(_HALF) if half else table.detach()
        d_states = torch.empty_like(states)
        d_table = torch.zeros_like(table)
        d_bias = torch.zeros_like(bias)
        loss = torch.zeros((), dtype=torch.float32, device=states.device)
        for start in range(0, count, ROWS):
            part = left[start : start + ROWS]
            logits = (part @ right.T).float()
            logits += bias.detach()
            rows = torch.arange(len(part), device=states.device)
            wanted = targets[start : start + ROWS]
            largest = logits.amax(dim=1, keepdim=True)
            hit = logits[rows, wanted] - largest.squeeze(1)
            logits.sub_(largest).exp_()
            total = logits.sum(dim=1, keepdim=True)
            loss += (total.squeeze(1).log() - hit).sum()
            logits.div_(total)
            logits[rows, wanted] -= 1.0
            d_bias += logits.sum(dim=0)
            gradient = logits.to(_HALF) if half else logits
            d_states[start : start + ROWS] = (gradient @ right).float()
            d_table += (gradient.T @ part).float()
        ctx.save_for_backward(d_states, d_table, d_bias)
        ctx.count = count
        return loss / count

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        d_states, d_table, d_bias = ctx.saved_tensors
        scale = grads[0] / ctx.count
        return d_states * scale, d_table * scale, d_bias * scale, None, None


def full_softmax(
    states: Tensor, table: Tensor, bias: Tensor, targets: Tensor, *, half: bool = True
) -> Tensor:
    """() mean cross-entropy of `targets` among all items, in nats.

    Args:
        states: (N, D) float32, what each position says comes next.
        table: (M, D) float32, one row an item.
        bias: (M,) float32, added to the logits.
        targets: (N,) int64, rows of `table`.
        half: multiply in bfloat16 (softmax and sums stay float32): twice as fast on CPUs with
            bfloat16 instructions, gradients differ by about 0.2%.
    """
    loss: Tensor = _CrossEntropy.apply(states, table, bias, targets, half)  # type: ignore[no-untyped-call]
    return loss


class _SampledCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,  # (N, D)
        hit: Tensor,  # (N,) logit of each row's target
        rows: Tensor,  # (K, D) of the negatives
        bias: Tensor,  # (K,) of the negatives, less the logarithm of their expected counts
        own: Tensor,  # (N,) place of the row's target among the negatives, -1: not there
        half: bool,
    ) -> Tensor:
        count = states.shape[0]
        left = states.detach().to(_HALF) if half else states.detach()
        right = rows.detach().to(_HALF) if half else rows.detach()
        d_states = torch.empty_like(states)
        d_hit = torch.empty_like(hit)
        d_rows = torch.zeros_like(rows)
        d_bias = torch.zeros_like(bias)
        loss = torch.zeros((), dtype=torch.float32, device=states.device)
        for start in range(0, count, ROWS):
            at = slice(start, start + ROWS)
            part, wanted = left[at], hit[at].detach()
            logits = (part @ right.T).float()
            logits += bias.detach()
            (met,) = torch.nonzero(own[at] >= 0, as_tuple=True)
            logits[met, own[at][met]] = -torch.inf
            largest = torch.maximum(logits.amax(dim=1), wanted)  # (rows,)
            logits.sub_(largest[:, None]).exp_()
            mine = (wanted - largest).exp()
            total = logits.sum(dim=1) + mine
            loss += (total.log() + largest - wanted).sum()
            logits.div_(total[:, None])
            d_hit[at] = mine / total - 1.0
            d_bias += logits.sum(dim=0)
            gradient = logits.to(_HALF) if half else logits
            d_states[at] = (gradient @ right).float()
            d_rows += (gradient.T @ part).float()
        ctx.save_for_backward(d_states, d_hit, d_rows, d_bias)
        ctx.count = count
        return loss / count

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        scale = grads[0] / ctx.count
        return *(saved * scale for saved in ctx.saved_tensors), None, None


def sampled_softmax(
    states: Tensor,
    table: Tensor,
    bias: Tensor,
    targets: Tensor,
    negatives: Tensor,
    log_expected: Tensor,
    *,
    half: bool = True,
) -> Tensor:
    """() mean cross-entropy of `targets` against a shared sample of items, corrected for sampling.

    A negative drawn with expected count q stands for 1/q items: log q is taken off its logit, so
    the sum over the sample estimates the sum over the catalogue without bias ("logQ correction",
    Bengio and Senecal 2008; Yi et al., RecSys 2019). A row's own target among the negatives is
    left out of the sum.

    Args:
        states: (N, D); table: (M, D); bias: (M,); targets: (N,); half: as for `full_softmax`.
        negatives: (K,) int64 items drawn.
        log_expected: (K,) natural log of how often each was expected in the sample.
    """
    hit = (states * F.embedding(targets, table)).sum(dim=1) + bias[targets]  # (N,)
    rows = F.embedding(negatives, table)  # (K, D)
    place = torch.full((len(table),), -1, dtype=torch.int64, device=table.device)
    place[negatives] = torch.arange(len(negatives), device=table.device)
    own = place[targets]
    loss: Tensor = _SampledCrossEntropy.apply(  # type: ignore[no-untyped-call]
        states, hit, rows, bias[negatives] - log_expected, own, half
    )
    return loss


def draw_negatives(
    items: int, count: int, generator: torch.Generator, shares: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """About `count` different items at random: (K,) items and (K,) log of their expected counts.

    Uniformly; with `shares` (M,), half of the draws follow them, so that popular items are met as
    often as they are seen. Each item is there at most once; its expected count is then its
    probability of being there.
    """
    count = min(count, items)
    if shares is None:
        drawn = torch.randperm(items, generator=generator)[:count]
        return drawn, torch.full((count,), float(count) / items).log()
    probability = (count * (0.5 * shares + 0.5 / items)).clamp(max=1.0)
    drawn = torch.nonzero(torch.rand(items, generator=generator) < probability).squeeze(1)
    return drawn, probability[drawn].log()
