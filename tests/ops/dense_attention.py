"""Local attention as one would write it down: a mask of all pairs. For tiny images."""

import torch
import torch.nn.functional as F
from torch import Tensor


def dense(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pool_weight: Tensor | None = None,
    *,
    height: int,
    width: int,
    window: int,
    text_length: int = 0,
    down_factor: int = 1,
    scale: float | None = None,
) -> Tensor:
    tokens = torch.arange(height * width, device=q.device)
    y, x = tokens // width, tokens % width
    near = (y[:, None] - y).square() + (x[:, None] - x).square() < window**2
    seen = torch.ones(2 * [text_length + height * width], dtype=torch.bool, device=q.device)
    seen[text_length:, text_length:] = near
    if down_factor > 1:
        k, v = (
            with_pooled(x, pool_weight, height, width, text_length, down_factor) for x in (k, v)
        )
        cells = torch.ones(len(seen), k.shape[2] - len(seen), dtype=torch.bool, device=q.device)
        cells[:text_length] = False
        seen = torch.cat([seen, cells], dim=1)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = (q @ k.transpose(-1, -2) * scale).masked_fill(~seen, -torch.inf)
    return scores.softmax(dim=-1) @ v


def with_pooled(
    x: Tensor, weight: Tensor | None, height: int, width: int, text_length: int, side: int
) -> Tensor:
    image = x[:, :, text_length:].unflatten(2, (height, width)).movedim(-1, 2).flatten(0, 1)
    if weight is None:
        pooled = F.avg_pool2d(image, side)
    else:
        kernel = weight.to(x.dtype).expand(image.shape[1], 1, side, side)
        pooled = F.conv2d(image, kernel, stride=side, groups=image.shape[1])
    pooled = pooled.unflatten(0, x.shape[:2]).flatten(3).transpose(2, 3)
    return torch.cat([x, pooled], dim=2)
