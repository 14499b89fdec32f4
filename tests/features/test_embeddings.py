from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from detal.errors import ConfigError
from detal.features.embeddings import class_contexts, class_gradients, require_object_features
from detal.structures import Detections
from tests.features.factories import detections_of, softmax_of


def test_gradient_of_sigmoid_scores_by_hand() -> None:
    """Of a weak box the likeliest answer is nothing."""
    seen = detections_of([[(1, 0.7), (0, 0.2)]])
    assert class_gradients(seen)[0].tolist() == pytest.approx([0.01, -0.3, 0.01], abs=1e-6)
    assert class_gradients(seen)[1].tolist() == pytest.approx([0.2, 0.01, 0.01], abs=1e-6)


def test_gradient_of_softmax_scores_has_a_column_for_background() -> None:
    seen = softmax_of([[0.5, 0.2, 0.3], [0.3, 0.2, 0.5]])
    assert class_gradients(seen)[0].tolist() == pytest.approx([-0.5, 0.2, 0.3], abs=1e-6)
    assert class_gradients(seen)[1].tolist() == pytest.approx([0.3, 0.2, -0.5], abs=1e-6)


def test_gradient_is_what_autograd_says() -> None:
    seen = detections_of([[(1, 0.7), (0, 0.2)]])
    logits = seen.logits.float().requires_grad_()
    target = torch.tensor([[0.0, 1, 0], [0, 0, 0]])
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    (expected,) = torch.autograd.grad(loss, logits)
    assert torch.allclose(class_gradients(seen), expected, atol=1e-6)
    seen = softmax_of([[0.6, 0.1, 0.3], [0.1, 0.3, 0.6]])
    logits = seen.logits.float().requires_grad_()
    answer = torch.tensor([0, 2])
    loss = torch.nn.functional.cross_entropy(logits, answer, reduction="sum")
    (expected,) = torch.autograd.grad(loss, logits)
    assert torch.allclose(class_gradients(seen), expected, atol=1e-6)


def naive_context(logits: np.ndarray) -> np.ndarray:
    """CDAL's descriptor, box by box."""
    total, weights = np.zeros(logits.shape[1]), 0.0
    for row in logits:
        p = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        entropy = -sum(x * np.log(x) for x in p)
        total, weights = total + entropy * p, weights + entropy
    return np.asarray(total / weights)


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_contexts_equal_a_loop(kind: str) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(7, 4 + (kind == "softmax")))
    seen = Detections(
        offsets=torch.tensor([0, 3, 3, 7]),
        boxes=torch.zeros(7, 4),
        scores=torch.full((7,), 0.5),
        labels=torch.zeros(7, dtype=torch.int64),
        logits=torch.tensor(logits),
        score_kind="softmax" if kind == "softmax" else "sigmoid",
    )
    contexts = class_contexts(seen).numpy()
    assert contexts[0] == pytest.approx(naive_context(logits[:3, :4]), abs=1e-6)
    assert contexts[1] == pytest.approx([0.25] * 4)  # no boxes
    assert contexts[2] == pytest.approx(naive_context(logits[3:, :4]), abs=1e-6)


def test_context_by_hand() -> None:
    """An even box (entropy ln 2) and a sure one (entropy near 0): the even one decides."""
    seen = replace(detections_of([[(0, 0.5), (1, 0.5)]], num_classes=2))
    logits = torch.tensor([[0.0, 0.0], [-60.0, 60.0]])
    assert class_contexts(replace(seen, logits=logits))[0].tolist() == pytest.approx([0.5, 0.5])


def test_boxes_without_entropy_count_equally() -> None:
    one_class = detections_of([[(0, 0.5), (0, 0.25)]], num_classes=1)
    assert class_contexts(one_class).tolist() == [[1.0]]
    sure = replace(
        detections_of([[(0, 0.5), (1, 0.5)]], num_classes=2),
        logits=torch.tensor([[torch.inf, 0.0], [-torch.inf, 0.0]]).clamp(min=-200, max=200),
    )
    assert class_contexts(sure)[0].tolist() == pytest.approx([0.5, 0.5])


def test_object_features_must_be_there() -> None:
    with pytest.raises(ConfigError, match=r"`ppal` needs a feature for each box.*use `cdal`"):
        require_object_features(detections_of([[(0, 0.5)]]), purpose="ppal")
    assert require_object_features(detections_of([[]]), purpose="ppal").shape == (0, 0)
