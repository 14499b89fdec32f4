"""What goes to the people who label: the chosen images with boxes to start from."""

from detal.manifests.batch import Batch, Image
from detal.manifests.coco import write_coco
from detal.manifests.manifest import write_manifest, write_manifest_files
from detal.manifests.staging import check_output, staged_folder
from detal.manifests.table import write_csv
from detal.manifests.yolo import write_yolo

__all__ = [
    "Batch",
    "Image",
    "check_output",
    "staged_folder",
    "write_coco",
    "write_csv",
    "write_manifest",
    "write_manifest_files",
    "write_yolo",
]
