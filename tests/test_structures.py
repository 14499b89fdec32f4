import numpy as np
import pytest
import torch

from detal.errors import BudgetError, DataError
from detal.structures import Annotations, Budget, Detections


def three_images() -> Detections:
    """Two, none and one detections; row i has score 0.9 - i / 10."""
    return Detections(
        offsets=torch.tensor([0, 2, 2, 3]),
        boxes=torch.arange(12.0).reshape(3, 4),
        scores=torch.tensor([0.9, 0.8, 0.7]),
        labels=torch.tensor([0, 1, 1]),
        logits=torch.tensor([[2.0, -1.0], [0.0, 1.0], [-1.0, 3.0]]),
        score_kind="sigmoid",
        image_features=torch.arange(6.0).reshape(3, 2),
    )


class TestDetections:
    def test_sizes(self) -> None:
        detections = three_images()
        assert (len(detections), detections.num_boxes, detections.num_classes) == (3, 3, 2)
        assert detections.counts.tolist() == [2, 0, 1]
        assert detections.image_index.tolist() == [0, 0, 2]

    @pytest.mark.parametrize(
        ("index", "scores", "counts"),
        [
            pytest.param([2, 0], [0.7, 0.9, 0.8], [1, 2], id="reordered"),
            pytest.param([1], [], [0], id="image-without-detections"),
            pytest.param([], [], [], id="nothing"),
            pytest.param([2, 2], [0.7, 0.7], [1, 1], id="repeated"),
        ],
    )
    def test_take(self, index: list[int], scores: list[float], counts: list[int]) -> None:
        taken = three_images().take(index)
        assert taken.counts.tolist() == counts
        torch.testing.assert_close(taken.scores, torch.tensor(scores))
        assert taken.image_features is not None
        torch.testing.assert_close(taken.image_features[:, 0], torch.tensor(index) * 2.0)

    def test_concat_of_parts_is_the_whole(self) -> None:
        whole = three_images()
        again = Detections.concat([whole.take([0]), whole.take([1, 2])])
        torch.testing.assert_close(again.offsets, whole.offsets)
        torch.testing.assert_close(again.boxes, whole.boxes)

    def test_concat_drops_a_field_that_one_part_lacks(self) -> None:
        bare = Detections.empty(1, num_classes=2)
        assert Detections.concat([three_images(), bare]).image_features is None

    def test_concat_refuses_nothing(self) -> None:
        with pytest.raises(DataError, match="at least one part"):
            Detections.concat([])

    def test_softmax_keeps_background_last(self) -> None:
        detections = Detections(
            offsets=torch.tensor([0, 1]),
            boxes=torch.zeros(1, 4),
            scores=torch.ones(1),
            labels=torch.zeros(1, dtype=torch.int64),
            logits=torch.tensor([[0.0, 0.0, np.log(2.0)]]),
            score_kind="softmax",
        )
        assert detections.num_classes == 2
        torch.testing.assert_close(detections.probs(), torch.tensor([[0.25, 0.25]]))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            pytest.param({"offsets": torch.tensor([0, 2])}, "must have 2 rows", id="rows"),
            pytest.param({"offsets": torch.tensor([1, 3])}, "start at 0", id="start"),
            pytest.param({"boxes": torch.zeros(3, 5)}, r"\(N, 4\)", id="box-shape"),
            pytest.param({"image_features": torch.zeros(2, 2)}, "3 rows", id="features"),
        ],
    )
    def test_bad_shapes_are_refused(self, change: dict[str, torch.Tensor], message: str) -> None:
        values = {**vars(three_images()), **change}
        with pytest.raises(DataError, match=message):
            Detections(**values)


class TestAnnotations:
    def test_counts_leave_crowds_out(self) -> None:
        annotations = Annotations.from_lists(
            [np.array([[0, 0, 2, 3], [0, 0, 1, 1]]), np.zeros((0, 4))],
            [np.array([1, 0]), np.zeros(0)],
            is_crowd=[np.array([False, True]), np.zeros(0, bool)],
        )
        assert annotations.class_counts(3).tolist() == [0, 1, 0]
        assert annotations.areas.tolist() == [6, 1]
        assert annotations.take([1, 0]).offsets.tolist() == [0, 0, 2]

    def test_no_images(self) -> None:
        empty = Annotations.from_lists([], [])
        assert (len(empty), empty.class_counts(2).tolist()) == (0, [0, 0])


class TestBudget:
    @pytest.mark.parametrize(
        ("unit", "costs"),
        [
            pytest.param("images", [1, 1], id="images"),
            pytest.param("boxes", [1, 4], id="boxes-at-least-one"),
            pytest.param("seconds", [5, 33], id="seconds"),
        ],
    )
    def test_costs(self, unit, costs: list[float]) -> None:
        assert Budget(10, unit).costs(np.array([0.0, 4.0])).tolist() == costs

    @pytest.mark.parametrize("amount", [0, -1, float("nan"), float("inf")])
    def test_amount_must_be_positive(self, amount: float) -> None:
        with pytest.raises(BudgetError, match="> 0"):
            Budget(amount)
