from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from detal.detectors.yolo_head import HeadOutput, OpenHead, rows_at
from detal.errors import DetectorError


def branch(channels: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, 3, 3, padding=1), nn.Conv2d(3, outputs, 1))


def make_head(num_bins: int) -> Any:
    return OpenHead(
        nn.ModuleList([branch(4, 4 * num_bins), branch(6, 4 * num_bins)]),
        nn.ModuleList([branch(4, 2), branch(6, 2)]),
        strides=[8.0, 16.0],
    )


def test_boxes_from_bins_by_hand():
    """All weight on bin 1 left, 0 top, 2 right; bins 0 and 3 in equal parts at the bottom."""
    head = make_head(4).eval()
    bins = torch.full((4, 4), -1e4)
    bins[0, 1] = bins[1, 0] = bins[2, 2] = bins[3, 0] = bins[3, 3] = 0.0
    for out in head.box_outs:
        nn.init.zeros_(out.weight)
        out.bias.data = bins.flatten()
    with torch.no_grad():
        output = head([torch.zeros(1, 4, 2, 3), torch.zeros(1, 6, 1, 2)])
        boxes, spread = head.boxes(output, torch.zeros(2, dtype=torch.int64), torch.tensor([4, 7]))
    # Anchor 4: level 0, row 1, column 1, centre (1.5, 1.5) strides of 8; 7: level 1, column 1.
    assert boxes.tolist() == [[4.0, 12.0, 28.0, 24.0], [8.0, 8.0, 56.0, 32.0]]
    assert spread is not None
    assert spread.tolist() == [[0.0, 0.0, 0.0, 12.0], [0.0, 0.0, 0.0, 24.0]]


def test_boxes_without_bins():
    head = make_head(1).eval()
    for out in head.box_outs:
        nn.init.zeros_(out.weight)
        out.bias.data = torch.tensor([0.5, 0.25, 1.0, 2.0])
    with torch.no_grad():
        output = head([torch.zeros(1, 4, 1, 1), torch.zeros(1, 6, 1, 1)])
        boxes, spread = head.boxes(output, torch.tensor([0]), torch.tensor([0]))
    assert boxes.tolist() == [[0.0, 2.0, 12.0, 20.0]]
    assert spread is None


def test_widths_and_pooled_features():
    head = make_head(4)
    assert (head.num_classes, head.num_bins, head.feature_width) == (2, 4, 3)
    output: HeadOutput = head([torch.full((2, 4, 2, 2), 3.0), torch.full((2, 6, 1, 1), 5.0)])
    assert output.pooled.tolist() == [[3.0] * 4 + [5.0] * 6] * 2
    assert head.pooled_width == 10


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_rows_at(layout):
    first = torch.arange(24.0).view(2, 2, 2, 3).contiguous(memory_format=layout)
    second = torch.arange(100.0, 104.0).view(2, 2, 1, 1)
    rows = rows_at([first, second], torch.tensor([0, 1, 1]), torch.tensor([4, 2, 6]))
    assert rows.tolist() == [[4.0, 10.0], [14.0, 20.0], [102.0, 103.0]]
    assert math.prod(rows_at([first], torch.zeros(0).long(), torch.zeros(0).long()).shape) == 0


def test_unknown_head_is_refused():
    wide = nn.ModuleList([nn.Sequential(nn.Conv2d(4, 8, 3))])
    with pytest.raises(DetectorError, match="must end in a 1x1 convolution"):
        OpenHead(wide, wide, strides=[8.0])
