"""The policy: an LSTM that walks over the candidates and scores each.

After MGRAL (Liang et al., arXiv 2310.08387), whose code and details are not public; the recurrent
sampler of CDAL (Agarwal et al., ECCV 2020) is the nearest that is.

Shapes: K rollouts, n candidates, F inputs, W candidates in a window.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["Policy"]

_WINDOW = 256
_SCALE = 5.0  # scores are this many times what the head says: softmax over thousands needs range


class Policy(nn.Module):
    """Scores of candidates, each seen after those before it in the walk.

    The walk is cut into windows of 256 candidates, which are walked side by side: each score
    depends on its own inputs and those of up to 255 candidates, drawn at random where the order is.

    Args:
        num_inputs: F.
        hidden: Width of the LSTM and of the head.
        seed: Draws the first weights.
    """

    def __init__(self, num_inputs: int, *, hidden: int, seed: torch.Generator) -> None:
        super().__init__()
        self.num_inputs = num_inputs
        self.hidden = hidden
        with torch.device("meta"):  # draws nothing from the global generator
            self.lstm = nn.LSTM(num_inputs, hidden, batch_first=True)
            self.first = nn.Linear(num_inputs + hidden, hidden)
            self.second = nn.Linear(hidden, 1)
        self.to_empty(device="cpu")
        bound = 1 / math.sqrt(hidden)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-bound, bound, generator=seed)

    def forward(self, inputs: Tensor, order: Tensor) -> Tensor:
        """(K, n) scores, by candidate.

        Args:
            inputs: (K, n, F) of the candidates.
            order: (K, n) the walk: candidate numbers.
        """
        count, n, width = inputs.shape
        walked = inputs.gather(1, order[:, :, None].expand(-1, -1, width))
        windows = max(math.ceil(n / _WINDOW), 1)
        length = max(math.ceil(n / windows), 1)
        padded = nn.functional.pad(walked, (0, 0, 0, windows * length - n))
        context, _ = self.lstm(padded.reshape(count * windows, length, width))
        context = context.reshape(count, windows * length, self.hidden)[:, :n]
        hidden = self.first(torch.cat([walked, context], dim=2)).relu()
        scores = _SCALE * self.second(hidden)[:, :, 0]
        return torch.zeros_like(scores).scatter(1, order, scores)
