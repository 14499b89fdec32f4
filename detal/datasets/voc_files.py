"""Find the XML files, images and lists of a VOC dataset and match them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

from detal.datasets.dataset import Problem
from detal.datasets.images import IMAGE_SUFFIXES
from detal.datasets.listing import files_below, read_text
from detal.datasets.voc_xml import parse_voc
from detal.errors import DataError, unknown_name

__all__ = ["VocFiles", "find_voc_files", "find_voc_root"]

# Folders of the devkit with pictures that are no photographs.
_MASK_FOLDERS = ("SegmentationClass", "SegmentationObject")


@dataclass(frozen=True)
class VocFiles:
    """The files of a dataset.

    Attributes:
        root: The dataset's folder.
        id_root: What image ids are relative to: ``root``, or the images' folder if it is elsewhere.
        pairs: Image and its XML file or None.
        other_xml: XML files of images outside the split.
        problems: XML files and list entries without an image.
    """

    root: Path
    id_root: Path
    pairs: tuple[tuple[str, str | None], ...]
    other_xml: tuple[str, ...]
    problems: tuple[Problem, ...]


def find_voc_root(folder: Path) -> Path:
    """The folder itself or the only one below it (two levels) that holds ``Annotations``.

    Raises:
        DataError: If several do.
    """
    if (folder / "Annotations").is_dir():
        return folder
    found = sorted({*folder.glob("*/Annotations"), *folder.glob("*/*/Annotations")})
    if len(found) > 1:
        names = ", ".join(str(place.parent.relative_to(folder)) for place in found)
        raise DataError(f"{folder} holds several VOC datasets, give one of them: {names}")
    return found[0].parent if found else folder


def find_voc_files(folder: Path, *, images_root: Path | None, split: str | None) -> VocFiles:
    """Match the files of a dataset.

    An XML file belongs to the image with the same name (without ending): beside it, or in the
    folder at the same place (``Annotations/a/1.xml``, ``JPEGImages/a/1.jpg``), or the only one.

    Args:
        folder: The dataset's folder or one above.
        images_root: Where the images are; by default ``JPEGImages``, or anywhere in the folder.
        split: List in ``ImageSets``, or folder.

    Raises:
        DataError: If the folder, XML files and images, or the split do not exist.
    """
    if not folder.is_dir():
        raise DataError(f"a VOC dataset must be a folder, got {folder}")
    root = find_voc_root(folder)
    photos = root / "JPEGImages"
    place = images_root or (photos if photos.is_dir() else root)
    xml_place = root / "Annotations" if (root / "Annotations").is_dir() else root
    images = sorted(files_below(place, IMAGE_SUFFIXES, skip=_MASK_FOLDERS))
    xml = sorted(files_below(xml_place, {".xml"}))
    if not images and not xml:
        raise DataError(f"a VOC folder must hold images and XML files, found neither in {root}")
    pairs, orphans = _match(images, xml, place, xml_place)
    problems: list[Problem] = []
    if split is not None:
        wanted = _split_list(root, split)
        if wanted is None:
            folders = [base / split for base in (root, place, xml_place)]
            pairs = [p for p in pairs if _is_below(p[0], folders)]
            orphans = [x for x in orphans if _is_below(x, folders)]
        else:
            pairs = [p for p in pairs if _keys(p[0], place) & wanted.keys()]
            orphans = [x for x in orphans if _keys(x, xml_place) & wanted.keys()]
            problems += _missing(wanted, [p[0] for p in pairs], place, split)
    problems += _unmatched(pairs, orphans)
    chosen = {x for _, x in pairs}
    others = tuple(x for x in xml if x not in chosen)
    id_root = root if place.is_relative_to(root) else place
    return VocFiles(root, id_root, tuple(pairs), others, tuple(problems))


def _match(
    images: list[str], xml: list[str], place: Path, xml_place: Path
) -> tuple[list[tuple[str, str | None]], list[str]]:
    """Each image with its XML file, and the XML files that remain."""
    files = {str(PurePath(name).with_suffix("")): name for name in xml}
    pairs = {image: files.pop(str(PurePath(image).with_suffix("")), None) for image in images}
    free = defaultdict(list)
    for name in files.values():
        free[PurePath(name).stem].append(name)
    alone = Counter(PurePath(image).stem for image, name in pairs.items() if name is None)
    for image in [image for image, name in pairs.items() if name is None]:
        stem = PurePath(image).stem
        near = [x for x in free[stem] if _same_place(image, x, place, xml_place)]
        lone = free[stem] if len(free[stem]) == alone[stem] == 1 else []
        pairs[image] = next(iter(near or lone), None)
    orphans = sorted(set(files.values()).difference(x for x in pairs.values() if x is not None))
    left = _match_by_statement(pairs, orphans)
    return list(pairs.items()), left


def _same_place(image: str, xml: str, place: Path, xml_place: Path) -> bool:
    """Whether the folders of two files have the same place below the images and the XML files."""
    one = PurePath(image).parent.relative_to(place).parts
    other = PurePath(xml).parent.relative_to(xml_place).parts
    # Below one folder: images/a/1.jpg and annotations/a/1.xml.
    return one == other if place != xml_place else one[1:] == other[1:]


def _match_by_statement(pairs: dict[str, str | None], orphans: list[str]) -> list[str]:
    """Pair XML files with images they state as ``filename``; gives the files that remain."""
    free = defaultdict(list)
    for image, xml in pairs.items():
        if xml is None:
            free[PurePath(image).name].append(image)
    left = []
    for name in orphans:
        try:
            found = free.pop(parse_voc(name).filename, [])
        except DataError:
            found = []
        if len(found) == 1:
            pairs[found[0]] = name
        else:
            left.append(name)
    return left


def _split_list(root: Path, split: str) -> dict[str, int] | None:
    """Names and line numbers of an ImageSets list; None if there are no lists but such a folder.

    Raises:
        DataError: If there is neither.
    """
    places = [p for p in (root / "ImageSets" / "Main", root / "ImageSets") if p.is_dir()]
    lists = {file.stem: file for place in places[:1] for file in sorted(place.glob("*.txt"))}
    if split not in lists:
        if split and (root / split).is_dir():
            return None
        if lists:
            raise DataError(f"{places[0]}: {unknown_name('split', split, lists)}")
        raise DataError(
            f"split {split!r} must be a list ImageSets/Main/{split}.txt or a folder in {root}"
        )
    wanted = {}
    for number, line in enumerate(read_text(lists[split]).splitlines(), start=1):
        values = line.split()
        # Lists of one class have a second column: 1 present, 0 difficult, -1 absent.
        if values and values[-1] != "-1":
            wanted[values[0]] = number
    return wanted


def _keys(file: str, place: Path) -> set[str]:
    """What a list may call a file: its name, or its path, without ending."""
    path = PurePath(file).with_suffix("")
    return {path.name, path.relative_to(place).as_posix()}


def _is_below(file: str, folders: Iterable[Path]) -> bool:
    return any(PurePath(file).is_relative_to(folder) for folder in folders)


def _missing(
    wanted: dict[str, int], images: Iterable[str], place: Path, split: str
) -> list[Problem]:
    found = set[str]().union(*(_keys(image, place) for image in images))
    return [
        Problem(
            "missing_file",
            str(place / name),
            f"{split}.txt line {number}",
            f"a listed image must exist in {place}, none is called {name}",
        )
        for name, number in wanted.items()
        if name not in found
    ]


def _unmatched(pairs: list[tuple[str, str | None]], orphans: list[str]) -> list[Problem]:
    problems = [
        Problem("missing_file", xml, "", "an annotation file must have an image of the same name")
        for xml in orphans
    ]
    if any(xml is not None for _, xml in pairs):
        message = "an image must have an annotation file; it is taken to have no objects"
        problems += [
            Problem("missing_annotation", image, "", message, "warning")
            for image, xml in pairs
            if xml is None
        ]
    return problems
