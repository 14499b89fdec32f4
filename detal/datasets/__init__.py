"""Datasets: read, verify, and read images."""

from detal.datasets.checking import check_dataset, problems_table
from detal.datasets.dataset import IMAGE_COLUMNS, Dataset, Problem
from detal.datasets.images import MAX_PIXELS, DecodedImage, image_size, read_image
from detal.datasets.metadata import join_metadata
from detal.datasets.reading import FORMATS, READERS, DatasetFormat, Reader, open_dataset

__all__ = [
    "FORMATS",
    "IMAGE_COLUMNS",
    "MAX_PIXELS",
    "READERS",
    "Dataset",
    "DatasetFormat",
    "DecodedImage",
    "Problem",
    "Reader",
    "check_dataset",
    "image_size",
    "join_metadata",
    "open_dataset",
    "problems_table",
    "read_image",
]
