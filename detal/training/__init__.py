"""Train detectors for a fixed number of optimisation steps: repeatable, resumable, in a budget."""

from detal.training.progress import EARLY_FOLDER, TrainResult, early_weights
from detal.training.torchvision import TorchvisionTraining, train_torchvision
from detal.training.torchvision_data import TorchvisionDataset
from detal.training.yolo import train_yolo

__all__ = [
    "EARLY_FOLDER",
    "TorchvisionDataset",
    "TorchvisionTraining",
    "TrainResult",
    "early_weights",
    "train_torchvision",
    "train_yolo",
]
