"""What goes to the people who label: the chosen images with boxes to start from."""

from detal.manifests.batch import Batch, Image
from detal.manifests.coco import write_coco
from detal.manifests.finished import batch_from_files, model_version, read_batch, read_record
from detal.manifests.hand_over import (
    WRITERS,
    HandOver,
    check_names,
    parse_formats,
    write_formats,
)
from detal.manifests.image_references import LOCAL_FILES, ImageMode, ImagePrefix
from detal.manifests.label_studio import labelling_config, tasks_of
from detal.manifests.manifest import write_manifest, write_manifest_files
from detal.manifests.staging import check_output, recover_folder, staged_folder
from detal.manifests.table import read_csv, write_csv
from detal.manifests.yolo import write_yolo
from detal.manifests.yolo_dataset import write_yolo_dataset

__all__ = [
    "LOCAL_FILES",
    "WRITERS",
    "Batch",
    "HandOver",
    "Image",
    "ImageMode",
    "ImagePrefix",
    "batch_from_files",
    "check_names",
    "check_output",
    "labelling_config",
    "model_version",
    "parse_formats",
    "read_batch",
    "read_csv",
    "read_record",
    "recover_folder",
    "staged_folder",
    "tasks_of",
    "write_coco",
    "write_csv",
    "write_formats",
    "write_manifest",
    "write_manifest_files",
    "write_yolo",
    "write_yolo_dataset",
]
