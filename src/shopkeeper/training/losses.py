"""Softmax cross-entropy over a catalogue without ever keeping the (rows, items) matrix.

Both gradients are computed in the forward pass, some rows at a time, because the matrix of a few
hundred rows fits the processor's cache and the whole one would not.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 256  # rows of logits at a time; measured fastest for 12k items on AVX-512
SET_ROWS = 64  # the same where a row's logits are computed once for all of its targets
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


class _SetCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,  # (B, D)
        table: Tensor,  # (C, D) of the columns
        bias: Tensor,  # (C,)
        less: Tensor | None,  # (C,) taken off all logits but the exact ones
        wanted: tuple[Tensor, Tensor],  # (N,) row and column, rows ascending
        exact: tuple[Tensor, Tensor],  # (E,) row and column, rows ascending
        more: Tensor,  # (E,) added to the exact ones
        of_rows: Tensor,  # (B,) weight of each row's pairs
        half: bool,
    ) -> Tensor:
        count = states.shape[0]
        left = states.detach().to(_HALF) if half else states.detach()
        right = table.detach().to(_HALF) if half else table.detach()
        d_states, d_table = torch.empty_like(states), torch.zeros_like(table)
        d_bias, d_more = torch.zeros_like(bias), torch.empty_like(more)
        loss = torch.zeros((), dtype=torch.float32)
        weight = of_rows[wanted[0]]
        total_weight = weight.sum().clamp(min=1e-12)
        starts = torch.arange(0, count + SET_ROWS, SET_ROWS)
        w_at = torch.searchsorted(wanted[0], starts).tolist()
        e_at = torch.searchsorted(exact[0], starts).tolist()
        for step, start in enumerate(range(0, count, SET_ROWS)):
            part = left[start : start + SET_ROWS]
            logits = (part @ right.T).float()
            logits += bias.detach()
            w, e = slice(w_at[step], w_at[step + 1]), slice(e_at[step], e_at[step + 1])
            wr, wc = wanted[0][w] - start, wanted[1][w]
            er, ec = exact[0][e] - start, exact[1][e]
            if less is not None:
                own = logits[wr, wc]
                added = logits[er, ec]
                logits -= less
                logits[wr, wc] = own
                logits[er, ec] = added
            logits[er, ec] += more.detach()[e]
            hit = logits[wr, wc]
            largest = logits.amax(dim=1)
            logits.sub_(largest[:, None]).exp_()
            total = logits.sum(dim=1)
            far = total.log() + largest
            loss += ((far[wr] - hit) * weight[w]).sum()
            each = torch.zeros(len(part)).index_add_(0, wr, weight[w])
            logits.mul_((each / total)[:, None])
            logits[wr, wc] -= weight[w]
            d_more[e] = logits[er, ec]
            d_bias += logits.sum(dim=0)
            gradient = logits.to(_HALF) if half else logits
            d_states[start : start + SET_ROWS] = (gradient @ right).float()
            d_table += (gradient.T @ part).float()
        ctx.save_for_backward(d_states, d_table, d_bias, d_more)
        ctx.total = total_weight
        return loss / total_weight

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        d_states, d_table, d_bias, d_more = (
            saved * (grads[0] / ctx.total) for saved in ctx.saved_tensors
        )
        return d_states, d_table, d_bias, None, None, None, d_more, None, None


def set_softmax(
    states: Tensor,
    table: Tensor,
    bias: Tensor,
    wanted: tuple[Tensor, Tensor],
    added: tuple[Tensor, Tensor, Tensor],
    *,
    of_rows: Tensor,
    drawn: tuple[Tensor, Tensor] | None = None,
    half: bool = True,
) -> Tensor:
    """() mean cross-entropy of several items a row: the row's logits are computed once for all.

    As `full_softmax` or, with `drawn`, `sampled_softmax` over the pairs; the softmax's sum runs over
    all items (or over the drawn ones for the rest of them), exact for the pairs named here.

    Args:
        states: (B, D); table: (M, D); bias: (M,).
        wanted: (N,) row and (N,) item of each pair, rows ascending, no pair twice.
        added: (E,) row, (E,) item and (E,) float32 added to that logit (-inf: no candidate), rows
            ascending, no pair twice.
        of_rows: (B,) weight of each row's pairs in the mean.
        drawn: (K,) items and (K,) natural log of their expected counts; None: all items.
        half: multiply in bfloat16; softmax and sums stay float32.
    """
    rows, items, more = added
    less = None
    if drawn is not None:
        columns = torch.unique(torch.cat([drawn[0], wanted[1], items]))
        place = torch.full((len(table),), -1, dtype=torch.int64)
        place[columns] = torch.arange(len(columns))
        less = torch.full((len(columns),), torch.inf)
        less[place[drawn[0]]] = drawn[1]
        table, bias = F.embedding(columns, table), bias[columns]
        wanted, items = (wanted[0], place[wanted[1]]), place[items]
    made: Tensor = _SetCrossEntropy.apply(  # type: ignore[no-untyped-call]
        states, table, bias, less, wanted, (rows, items), more, of_rows, half
    )
    return made
