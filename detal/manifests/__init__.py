"""What goes to the people who label: the chosen images with boxes to start from."""

from detal.manifests.batch import Batch, Image
from detal.manifests.coco import write_coco
from detal.manifests.manifest import write_manifest, write_manifest_files
from detal.manifests.staging import check_output, recover_folder, staged_folder
from detal.manifests.table import read_csv, write_csv
from detal.manifests.yolo import write_yolo
from detal.manifests.yolo_dataset import write_yolo_dataset

__all__ = [
    "Batch",
    "Image",
    "check_output",
    "read_csv",
    "recover_folder",
    "staged_folder",
    "write_coco",
    "write_csv",
    "write_manifest",
    "write_manifest_files",
    "write_yolo",
    "write_yolo_dataset",
]
