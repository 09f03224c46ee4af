"""Google's Inception of 2015-12-05, the network of FID, as its TensorFlow graph computes it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SPATIAL_CHANNELS = 7


class ConvBlock(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, hidden: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(hidden)), inplace=True)


def across(inputs: int, outputs: int, length: int) -> ConvBlock:
    """A row of `length` pixels."""
    return ConvBlock(inputs, outputs, (1, length), padding=(0, length // 2))


def down(inputs: int, outputs: int, length: int) -> ConvBlock:
    """A column of `length` pixels."""
    return ConvBlock(inputs, outputs, (length, 1), padding=(length // 2, 0))


def average(hidden: Tensor) -> Tensor:
    """3 x 3 means that leave out the border, as TensorFlow's do."""
    return F.avg_pool2d(hidden, 3, stride=1, padding=1, count_include_pad=False)


class Mixed35(nn.Module):
    """Mixed_5b to Mixed_5d: [B, inputs, 35, 35] -> [B, 224 + pooled, 35, 35]."""

    def __init__(self, inputs: int, pooled: int):
        super().__init__()
        self.branch1x1 = ConvBlock(inputs, 64, 1)
        self.branch5x5_1 = ConvBlock(inputs, 48, 1)
        self.branch5x5_2 = ConvBlock(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = ConvBlock(inputs, 64, 1)
        self.branch3x3dbl_2 = ConvBlock(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvBlock(96, 96, 3, padding=1)
        self.branch_pool = ConvBlock(inputs, pooled, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        single = self.branch5x5_2(self.branch5x5_1(hidden))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(hidden)))
        pooled = self.branch_pool(average(hidden))
        return torch.cat([self.branch1x1(hidden), single, double, pooled], dim=1)


class Shrink35(nn.Module):
    """Mixed_6a: [B, 288, 35, 35] -> [B, 768, 17, 17]."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3 = ConvBlock(288, 384, 3, stride=2)
        self.branch3x3dbl_1 = ConvBlock(288, 64, 1)
        self.branch3x3dbl_2 = ConvBlock(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvBlock(96, 96, 3, stride=2)

    def forward(self, hidden: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(hidden)))
        return torch.cat([self.branch3x3(hidden), double, F.max_pool2d(hidden, 3, 2)], dim=1)


class Mixed17(nn.Module):
    """Mixed_6b to Mixed_6e: [B, 768, 17, 17] -> the same, 7 x 7 as rows and columns."""

    def __init__(self, width: int):
        super().__init__()
        self.branch1x1 = ConvBlock(768, 192, 1)
        self.branch7x7_1 = ConvBlock(768, width, 1)
        self.branch7x7_2 = across(width, width, 7)
        self.branch7x7_3 = down(width, 192, 7)
        self.branch7x7dbl_1 = ConvBlock(768, width, 1)
        self.branch7x7dbl_2 = down(width, width, 7)
        self.branch7x7dbl_3 = across(width, width, 7)
        self.branch7x7dbl_4 = down(width, width, 7)
        self.branch7x7dbl_5 = across(width, 192, 7)
        self.branch_pool = ConvBlock(768, 192, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(hidden)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(hidden)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        pooled = self.branch_pool(average(hidden))
        return torch.cat([self.branch1x1(hidden), single, double, pooled], dim=1)


class Shrink17(nn.Module):
    """Mixed_7a: [B, 768, 17, 17] -> [B, 1280, 8, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = ConvBlock(768, 192, 1)
        self.branch3x3_2 = ConvBlock(192, 320, 3, stride=2)
        self.branch7x7x3_1 = ConvBlock(768, 192, 1)
        self.branch7x7x3_2 = across(192, 192, 7)
        self.branch7x7x3_3 = down(192, 192, 7)
        self.branch7x7x3_4 = ConvBlock(192, 192, 3, stride=2)

    def forward(self, hidden: Tensor) -> Tensor:
        small = self.branch3x3_2(self.branch3x3_1(hidden))
        large = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(hidden)))
        large = self.branch7x7x3_4(large)
        return torch.cat([small, large, F.max_pool2d(hidden, 3, 2)], dim=1)


class Mixed8(nn.Module):
    """Mixed_7b and Mixed_7c: [B, inputs, 8, 8] -> [B, 2048, 8, 8].

    Args:
        maximum: whether the pooled branch takes maxima; in the graph, Mixed_7c does.
    """

    def __init__(self, inputs: int, maximum: bool):
        super().__init__()
        self.maximum = maximum
        self.branch1x1 = ConvBlock(inputs, 320, 1)
        self.branch3x3_1 = ConvBlock(inputs, 384, 1)
        self.branch3x3_2a = across(384, 384, 3)
        self.branch3x3_2b = down(384, 384, 3)
        self.branch3x3dbl_1 = ConvBlock(inputs, 448, 1)
        self.branch3x3dbl_2 = ConvBlock(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = across(384, 384, 3)
        self.branch3x3dbl_3b = down(384, 384, 3)
        self.branch_pool = ConvBlock(inputs, 192, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        single = self.branch3x3_1(hidden)
        single = [self.branch3x3_2a(single), self.branch3x3_2b(single)]
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(hidden))
        double = [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        pooled = F.max_pool2d(hidden, 3, 1, padding=1) if self.maximum else average(hidden)
        pooled = self.branch_pool(pooled)
        return torch.cat([self.branch1x1(hidden), *single, *double, pooled], dim=1)


class Inception2015(nn.Module):
    """Inception with 1008 classes; modules are called as the tensors of the published file are.

    `forward` takes floats [B, 3, 299, 299] in [-1, 1) and returns `pool` [B, 2048], `spatial`
    [B, 2023] (ADM's: the first 7 channels of Mixed_6d's first branch, rows, columns, channels) and
    `logits` [B, 1008] without the bias, as the graph is read for scores.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvBlock(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = ConvBlock(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvBlock(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = ConvBlock(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvBlock(80, 192, 3)
        self.Mixed_5b = Mixed35(192, pooled=32)
        self.Mixed_5c = Mixed35(256, pooled=64)
        self.Mixed_5d = Mixed35(288, pooled=64)
        self.Mixed_6a = Shrink35()
        self.Mixed_6b = Mixed17(128)
        self.Mixed_6c = Mixed17(160)
        self.Mixed_6d = Mixed17(160)
        self.Mixed_6e = Mixed17(192)
        self.Mixed_7a = Shrink17()
        self.Mixed_7b = Mixed8(1280, maximum=False)
        self.Mixed_7c = Mixed8(2048, maximum=True)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        # [B, 3, 299, 299] -> [B, 64, 147, 147]
        hidden = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(pixels)))
        hidden = self.Conv2d_3b_1x1(F.max_pool2d(hidden, 3, 2))
        # [B, 192, 35, 35]
        hidden = F.max_pool2d(self.Conv2d_4a_3x3(hidden), 3, 2)
        # [B, 288, 35, 35]
        hidden = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(hidden)))
        # [B, 768, 17, 17]
        hidden = self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(hidden))))
        # channels last before flattening, as TensorFlow stores them
        spatial = hidden[:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)
        hidden = self.Mixed_7a(self.Mixed_6e(hidden))
        # [B, 2048, 8, 8] -> [B, 2048]
        pool = self.Mixed_7c(self.Mixed_7b(hidden)).mean(dim=(2, 3))
        return {"pool": pool, "spatial": spatial, "logits": pool @ self.fc.weight.T}
