"""The YOLO detection head, opened before its last convolutions, and what its outputs mean.

The same layers as in the library's head, with the values that it throws away: the input of the last
classification convolution (object features), the bins of each box side (their spread) and all class
logits. Nothing is kept on a module, so one model may run in several threads.

Shapes: B images, A anchors over all levels, C classes, R bins per side, n chosen anchors.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from detal.errors import DetectorError
from detal.seeding import generator

__all__ = ["HeadOutput", "OpenHead", "rows_at"]


class HeadOutput(NamedTuple):
    """What one forward pass gives, one entry per level.

    Attributes:
        logits: (B, C, h, w) class logits before the sigmoid.
        class_maps: (B, D, h, w) inputs of the last classification convolution.
        box_maps: (B, E, h, w) inputs of the last box convolution.
        pooled: (B, F) average of each input map of the head, levels side by side.
    """

    logits: list[Tensor]
    class_maps: list[Tensor]
    box_maps: list[Tensor]
    pooled: Tensor


class OpenHead(nn.Module):
    """Takes the place of the library's head as the last layer of the model.

    Args:
        box_head: The library's box branch: one ``nn.Sequential`` per level that ends in a 1x1
            convolution to ``4 R`` channels.
        class_head: Its classification branch, likewise, to C channels.
        strides: Stride of each level in pixels.

    Raises:
        DetectorError: If the branches are not built like that.
    """

    def __init__(
        self, box_head: nn.ModuleList, class_head: nn.ModuleList, *, strides: list[float]
    ) -> None:
        super().__init__()
        self.box_trunks, self.box_outs = _split(box_head)
        self.class_trunks, self.class_outs = _split(class_head)
        self.strides = strides
        # How the library routes layers: which ones feed this one, and its own place.
        self.f: Any = None
        self.i: Any = None

    @property
    def num_classes(self) -> int:
        """C."""
        return cast("nn.Conv2d", self.class_outs[0]).out_channels

    @property
    def num_bins(self) -> int:
        """R; 1 for a head that states each side as one number."""
        return cast("nn.Conv2d", self.box_outs[0]).out_channels // 4

    @property
    def feature_width(self) -> int:
        """D."""
        return cast("nn.Conv2d", self.class_outs[0]).in_channels

    @property
    def pooled_width(self) -> int:
        """F."""
        first = (
            next(m for m in trunk.modules() if isinstance(m, nn.Conv2d))
            for trunk in self.class_trunks
        )
        return sum(conv.in_channels for conv in first)

    def forward(self, levels: list[Tensor]) -> HeadOutput:
        """Run both branches up to what is needed for every anchor."""
        class_maps = [trunk(x) for trunk, x in zip(self.class_trunks, levels, strict=True)]
        return HeadOutput(
            logits=[out(x) for out, x in zip(self.class_outs, class_maps, strict=True)],
            class_maps=class_maps,
            box_maps=[trunk(x) for trunk, x in zip(self.box_trunks, levels, strict=True)],
            pooled=torch.cat([x.float().mean(dim=(2, 3)) for x in levels], dim=1),
        )

    def boxes(
        self, output: HeadOutput, images: Tensor, anchors: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Boxes of chosen anchors; the last box convolution runs for these alone.

        Args:
            output: What `forward` gave.
            images: (n,) image of each anchor.
            anchors: (n,) anchor, levels side by side.

        Returns:
            (n, 4) xyxy in network pixels and (n, 4) standard deviation of the sides over the bins,
            or None for a head without bins.
        """
        raw = images.new_zeros((len(images), 4 * self.num_bins), dtype=torch.float32)
        centers = raw.new_zeros(len(images), 2)
        stride = raw.new_zeros(len(images), 1)
        for level, (rows, position) in enumerate(_by_level(output.box_maps, anchors)):
            box_map, conv = output.box_maps[level], cast("nn.Conv2d", self.box_outs[level])
            inputs = box_map.flatten(2)[images[rows], :, position]
            weight = conv.weight.flatten(1)
            raw[rows] = functional.linear(inputs, weight, conv.bias).float()
            width = box_map.shape[3]
            centers[rows] = torch.stack([position % width, position // width], dim=1) + 0.5
            stride[rows] = self.strides[level]
        distances, spread = _distances(raw.view(-1, 4, self.num_bins))
        corners = torch.cat([centers - distances[:, :2], centers + distances[:, 2:]], dim=1)
        return corners * stride, None if spread is None else spread * stride

    def mutual_information(
        self, output: HeadOutput, images: Tensor, anchors: Tensor, *, samples: int, rate: float
    ) -> Tensor:
        """What the classes of chosen anchors share with the weights under dropout, in nats.

        The input of the last classification convolution is thinned out ``samples`` times (the same
        times for every anchor and image), and this layer alone runs again, for these anchors alone.

        Args:
            output: What `forward` gave.
            images: (n,) image of each anchor.
            anchors: (n,) anchor, levels side by side.
            samples: Times, >= 1.
            rate: Share of the inputs dropped, in (0, 1).

        Returns:
            (n,) entropy of the mean less mean entropy, summed over the independent classes, >= 0.
        """
        rng = generator(0, "dropout", samples, self.feature_width)
        kept = rng.random((samples, self.feature_width)) >= rate
        masks = torch.from_numpy(kept).to(images.device).float() / (1 - rate)
        shared = masks.new_zeros(len(images))
        for level, (rows, position) in enumerate(_by_level(output.class_maps, anchors)):
            conv = cast("nn.Conv2d", self.class_outs[level])
            inputs = output.class_maps[level].flatten(2)[images[rows], :, position].float()
            weight = conv.weight.flatten(1).float()
            bias = None if conv.bias is None else conv.bias.float()
            mean = inputs.new_zeros(len(rows), self.num_classes)
            entropy = inputs.new_zeros(len(rows))
            for mask in masks:
                probs = functional.linear(inputs * mask, weight, bias).sigmoid()
                mean += probs / samples
                entropy += _binary_entropy(probs) / samples
            shared[rows] = (_binary_entropy(mean) - entropy).clamp_min(0)
        return shared


def _binary_entropy(probs: Tensor) -> Tensor:
    """(n,) summed over the columns of (n, C)."""
    entropy: Tensor = torch.special.entr(probs) + torch.special.entr(1 - probs)
    return entropy.sum(dim=1)


def _split(branches: nn.ModuleList) -> tuple[nn.ModuleList, nn.ModuleList]:
    """Everything but the last convolution of each level, and the last convolutions."""
    trunks, outs = nn.ModuleList(), nn.ModuleList()
    for branch in branches:
        last = branch[-1] if isinstance(branch, nn.Sequential) else branch
        if not (isinstance(last, nn.Conv2d) and last.kernel_size == (1, 1)):
            raise DetectorError(
                "a YOLO head must end in a 1x1 convolution on each level, got "
                f"{type(last).__name__}; this ultralytics version is not known to detal"
            )
        trunks.append(cast("nn.Sequential", branch)[:-1])
        outs.append(last)
    return trunks, outs


def rows_at(maps: list[Tensor], images: Tensor, anchors: Tensor) -> Tensor:
    """(n, D) values of per-level maps (B, D, h, w) at chosen anchors."""
    out = maps[0].new_zeros(len(images), maps[0].shape[1])
    for level, (rows, position) in enumerate(_by_level(maps, anchors)):
        out[rows] = maps[level].flatten(2)[images[rows], :, position]
    return out.float()


def _by_level(maps: list[Tensor], anchors: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each level: which of the anchors are on it, and their position in its map."""
    chosen, start = [], 0
    for level in maps:
        stop = start + level.shape[2] * level.shape[3]
        rows = ((anchors >= start) & (anchors < stop)).nonzero()[:, 0]
        chosen.append((rows, anchors[rows] - start))
        start = stop
    return chosen


def _distances(raw: Tensor) -> tuple[Tensor, Tensor | None]:
    """Mean and standard deviation of each side's distribution over bins, in strides.

    Args:
        raw: (n, 4, R) bin logits; with R = 1 the distances themselves.
    """
    if raw.shape[2] == 1:
        return raw[:, :, 0], None
    probs = raw.softmax(dim=2)
    bins = torch.arange(raw.shape[2], dtype=probs.dtype, device=probs.device)
    mean = probs @ bins
    variance = (probs * (bins - mean[:, :, None]).square()).sum(dim=2)
    return mean, variance.sqrt()
