"""Dropout that draws one byte a value instead of one float: on a CPU the draw is most of the cost."""

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Zero a share of the values while learning and scale up the rest, as `nn.Dropout`.

    The share is rounded to a multiple of 1/256; the scale fits the rounded share.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.dropped = min(255, max(0, round(share * 256)))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.dropped == 0:
            return x
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64, device=x.device)
        words.random_(-(2**63), None)  # all 64 bits
        keep = words.view(torch.uint8)[: x.numel()].view(x.shape) >= self.dropped
        return x * (keep * (256.0 / (256 - self.dropped)))
