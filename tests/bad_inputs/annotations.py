"""Annotation files of strangers: COCO, VOC, YOLO, CVAT, Label Studio."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bad_inputs.cases import Case, Make, check, family
from tests.datasets.making import (
    coco_box,
    coco_image,
    cvat_shape,
    cvat_xml,
    ls_box,
    ls_region,
    ls_task,
    voc_xml,
    write_image,
    write_text,
)

__all__ = ["ODD_NAMES", "PROLOGUES", "YAML_OBJECTS", "cases"]

ODD_NAMES = {
    "quotes": "a\"b'c`d",
    "newline": "a\nb",
    "emoji": "🐈‍⬛ cat",
    "formula": '=HYPERLINK("http://x","y")',
    "formula-minus": "-2+3+cmd|' /C calc'!A0",
    "script": "<script>alert(1)</script>",
    "image": "<img src=x onerror=alert(1)>",
    "closing": "</script><!--",
    "markup": "[red]a[/red] [link=http://x]y[/link]",
    "escape": "\x1b[31mred\x1b[0m\x07",
    "dollar": "$HOME ${x} $(id) `id` %s {0} {{7*7}} $\\frac{1}{0}$",
    "path": "../../../etc/passwd",
    "long": "n" * 100_000,
    "empty": "",
    "right-to-left": "\u202egnp.exe",
}


def cases() -> list[Case]:
    """All of them."""
    return [*_coco(), *_json(), *_voc(), *_cvat(), *_xml(), *_yolo(), *_label_studio(), *_names()]


def _document(**changes: Any) -> dict[str, Any]:
    document = {
        "images": [coco_image(1), coco_image(2)],
        "annotations": [coco_box(1, 1, [2, 3, 10, 12])],
        "categories": [{"id": 1, "name": "cat"}],
    }
    return {**document, **changes}


def _coco_file(content: Callable[[], Any], *options: object) -> Make:
    def make(folder: Path) -> Sequence[object]:
        for name in ("1.jpg", "2.jpg"):
            write_image(folder / name, seed=int(name[0]))
        made = content()
        data = made if isinstance(made, bytes) else json.dumps(made).encode()
        (folder / "instances.json").write_bytes(data)
        return check(folder / "instances.json", *options)

    return make


def _box(bbox: Any, **fields: Any) -> Make:
    return _coco_file(lambda: _document(annotations=[coco_box(1, 1, bbox, **fields)]))


def _image(**fields: Any) -> Make:
    return _coco_file(lambda: _document(images=[{**coco_image(1), **fields}, coco_image(2)]))


def _with_id(value: Any) -> Make:
    return _coco_file(
        lambda: _document(
            images=[{**coco_image(1), "id": value}, coco_image(2)],
            annotations=[coco_box(1, value, [2, 3, 10, 12])],
        )
    )


def _coco() -> list[Case]:
    infinite, huge = float("inf"), 10**400
    ids = {
        "float": 1.5,
        "2^63": 2**63,
        "2^200": 2**200,
        "negative": -1,
        "boolean": True,
        "list": [1],
        "object": {"a": 1},
        "null": None,
        "empty": "",
        "nan": float("nan"),
        "infinite": infinite,
        "surrogate": "\ud800",
    }
    boxes: dict[str, Any] = {
        "nan": [float("nan"), 1, 2, 3],
        "infinite": [0, 0, infinite, infinite],
        "minus-infinite": [-infinite, 0, 10, 10],
        "1e308": [0, 0, 1e308, 1e308],
        "10^400": [huge, 1, 2, 3],
        "negative": [10, 10, -5, 5],
        "zero": [1, 1, 0, 0],
        "outside": [500, 500, 10, 10],
        "over-the-edge": [30, 20, 500, 500],
        "three": [1, 2, 3],
        "five": [1, 2, 3, 4, 5],
        "empty": [],
        "nested": [[1, 2, 3, 4]],
        "text": ["1", "2", "3", "4"],
        "string": "1,2,3,4",
        "null": None,
        "object": {"x": 1},
        "booleans": [True, True, True, True],
        "tiny": [1, 1, 1e-40, 1e-40],
    }
    document: dict[str, Make] = {
        "no-images": _coco_file(lambda: {"annotations": [], "categories": []}),
        "images-object": _coco_file(lambda: _document(images={"1": {}})),
        "images-null": _coco_file(lambda: _document(images=None)),
        "images-numbers": _coco_file(lambda: _document(images=[1, 2.5, None, "x", []])),
        "annotations-object": _coco_file(lambda: _document(annotations={"a": 1})),
        "annotations-numbers": _coco_file(lambda: _document(annotations=[1, None, "x", [], {}])),
        "categories-object": _coco_file(lambda: _document(categories={"a": 1})),
        "categories-numbers": _coco_file(lambda: _document(categories=[1, None, "x", [], {}])),
        "0-images": _coco_file(lambda: _document(images=[], annotations=[])),
        "0-categories": _coco_file(lambda: _document(categories=[])),
        "0-categories-0-boxes": _coco_file(lambda: _document(categories=[], annotations=[])),
        "20000-categories": _coco_file(
            lambda: _document(categories=[{"id": i, "name": f"c{i}"} for i in range(20_000)])
        ),
        "20000-unknown-categories": _coco_file(
            lambda: _document(
                annotations=[coco_box(i, 1, [1, 1, 5, 5], category_id=i + 7) for i in range(20_000)]
            )
        ),
        "same-category-twice": _coco_file(
            lambda: _document(categories=[{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}])
        ),
        "same-name-twice": _coco_file(
            lambda: _document(categories=[{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}])
        ),
        "category-id-text": _coco_file(lambda: _document(categories=[{"id": "1", "name": "c"}])),
        "category-id-2^63": _coco_file(lambda: _document(categories=[{"id": 2**63, "name": "c"}])),
        "category-name-object": _coco_file(lambda: _document(categories=[{"id": 1, "name": {}}])),
        "same-image-twice": _coco_file(lambda: _document(images=[coco_image(1), coco_image(1)])),
        "same-file-twice": _coco_file(
            lambda: _document(images=[coco_image(1), coco_image(2, file_name="1.jpg")])
        ),
        "same-annotation-twice": _coco_file(
            lambda: _document(annotations=[coco_box(1, 1, [1, 1, 5, 5])] * 3)
        ),
        "unknown-image": _coco_file(lambda: _document(annotations=[coco_box(1, 77, [1, 1, 5, 5])])),
        "unknown-category": _box([1, 1, 5, 5], category_id=99),
        "category-float": _box([1, 1, 5, 5], category_id=1.5),
        "category-text": _box([1, 1, 5, 5], category_id="1"),
        "category-2^63": _box([1, 1, 5, 5], category_id=2**63),
        "area-nan": _box([1, 1, 5, 5], area=float("nan")),
        "area-text": _box([1, 1, 5, 5], area="large"),
        "annotation-id-2^63": _box([1, 1, 5, 5], id=2**63),
        "annotation-id-2^62": _coco_file(
            lambda: _document(
                annotations=[coco_box(2**62, 1, [1, 1, 5, 5]), coco_box(2**62, 1, [2, 2, 5, 5])]
            )
        ),
        "other-split": _coco_file(_document, "--split", "nowhere"),
        "other-format": _coco_file(_document, "--format", "cvat"),
        "results-file": _coco_file(
            lambda: [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2], "score": 1}]
        ),
    }
    images = {
        "name-missing": _image(file_name=None),
        "name-number": _image(file_name=5),
        "name-empty": _image(file_name=""),
        "name-nul": _image(file_name="a\0b.jpg"),
        "name-surrogate": _image(file_name="\ud800.jpg"),
        "name-long": _image(file_name="x" * 5000 + ".jpg"),
        "name-folder": _image(file_name="."),
        "name-traversal": _image(file_name="../../../../../etc/passwd"),
        "name-absolute": _image(file_name="/etc/passwd"),
        "name-device": _image(file_name="/dev/zero"),
        "name-url": _image(file_name="http://127.0.0.1:9/x.jpg"),
        "name-fifo": _fifo,
        "size-0": _image(width=0, height=0),
        "size-nan": _image(width=float("nan"), height=30),
        "size-huge": _image(width=10**400, height=30),
        "size-text": _image(width="40", height="30"),
        "size-other": _image(width=4000, height=30),
        "metadata-mixed": _coco_file(
            lambda: _document(images=[coco_image(1, note=[1]), coco_image(2, note={"a": 10**30})])
        ),
        "metadata-reserved": _image(path="x", image_id="y", group=5),
        "metadata-2^70": _coco_file(
            lambda: _document(images=[coco_image(1, note=2**70), coco_image(2, note="x")])
        ),
    }
    return [
        *family(
            "COCO image ids",
            {name: _with_id(value) for name, value in ids.items()},
            used={
                "2^63": "an id is text to us, of any size",
                "2^200": "an id is text to us, of any size",
                "negative": "an id is text to us",
            },
        ),
        *family(
            "COCO boxes",
            {name: _box(value) for name, value in boxes.items()},
            used={
                "booleans": "JSON's true counts as 1 in Python",
            },
        ),
        *family(
            "COCO documents",
            document,
            used={
                "0-categories-0-boxes": "two images of no class",
                "20000-categories": "that many classes are allowed",
                "category-name-object": "any name is text",
                "area-nan": "the box gives the area",
                "area-text": "the box gives the area",
                "annotation-id-2^63": "it gets a number of its own",
                "0-images": "a set may be empty",
            },
        ),
        *family(
            "COCO images",
            images,
            used={
                "size-0": "the size is read from the file",
                "size-nan": "the size is read from the file",
                "size-huge": "the size is read from the file",
                "size-text": "the size is read from the file",
                "metadata-mixed": "what is no number or text is no column",
                "metadata-reserved": "they become columns under other names",
                "metadata-2^70": "becomes text",
            },
        ),
    ]


def _fifo(folder: Path) -> Sequence[object]:
    os.mkfifo(folder / "pipe.jpg")
    return _image(file_name="pipe.jpg")(folder)


def _json() -> list[Case]:
    def deep(opening: str, closing: str, count: int = 200_000) -> bytes:
        return f'{{"images": {opening * count}{closing * count}}}'.encode()

    text = json.dumps(_document())
    contents: dict[str, Callable[[], bytes]] = {
        "empty": lambda: b"",
        "blank": lambda: b"  \n ",
        "truncated": lambda: text[: len(text) // 2].encode(),
        "null": lambda: b"null",
        "number": lambda: b"17",
        "text": lambda: b'"images"',
        "binary": lambda: bytes(range(256)),
        "utf-16": lambda: text.encode("utf-16"),
        "latin-1": lambda: text.replace("cat", "cät").encode("latin-1"),
        "nul": lambda: text.replace("cat", "c\0t").encode(),
        "trailing-comma": lambda: text.replace("]", ",]").encode(),
        "comment": lambda: b"/* x */" + text.encode(),
        "two-documents": lambda: (text + text).encode(),
        "deep-lists": lambda: deep("[", "]"),
        "deep-objects": lambda: deep('{"a":', "}"),
        "deep-unclosed": lambda: deep("[", ""),
        "deep-5000": lambda: deep("[", "]", 900),
        "digits": lambda: b'{"images": [{"id": ' + b"9" * 100_000 + b', "file_name": "1.jpg"}]}',
        "exponent": lambda: b'{"images": [{"id": 1e999999, "file_name": "1.jpg"}]}',
        "duplicate-keys": lambda: b'{"images": [], ' + text[1:].encode(),
        "duplicate-keys-empty": lambda: text[:-1].encode() + b', "images": []}',
        "duplicate-ids-in-object": lambda: text.replace(
            '"id": 1,', '"id": 1, "id": 2,', 1
        ).encode(),
        "huge": lambda: json.dumps(
            _document(annotations=[coco_box(i, 1, [1, 1, 5, 5]) for i in range(150_000)])
        ).encode(),
        "huge-string": lambda: text.replace("cat", "c" * 20_000_000).encode(),
        "many-keys": lambda: json.dumps(
            _document(images=[{**coco_image(1), **{f"k{i}": i for i in range(20_000)}}])
        ).encode(),
        "escapes": lambda: text.replace("cat", "\\ud800\\u0000\\u001b[31m").encode(),
    }
    return family(
        "JSON",
        {name: _coco_file(content) for name, content in contents.items()},
        used={
            "huge": "150,000 boxes are a dataset",
            "many-keys": "20,000 columns are metadata",
        },
    )


def _voc_folder(content: Callable[[], bytes | str]) -> Make:
    def make(folder: Path) -> Sequence[object]:
        write_image(folder / "voc" / "JPEGImages" / "1.jpg")
        write_image(folder / "voc" / "JPEGImages" / "2.jpg", seed=2)
        good = voc_xml([("cat", (1, 1, 10, 10))], filename="2.jpg")
        write_text(folder / "voc" / "Annotations" / "2.xml", good)
        made = content()
        data = made if isinstance(made, bytes) else made.encode()
        (folder / "voc" / "Annotations" / "1.xml").write_bytes(data)
        return check(folder / "voc")

    return make


def _voc() -> list[Case]:
    def boxes(*corners: object) -> Make:
        return _voc_folder(lambda: voc_xml([("cat", corners)], filename="1.jpg"))

    good = voc_xml([("cat", (1, 1, 10, 10))], filename="1.jpg")
    return family(
        "VOC",
        {
            "box-nan": boxes("nan", 1, 10, 10),
            "box-infinite": boxes(1, 1, "inf", "inf"),
            "box-1e999": boxes(1, 1, "1e999", 10),
            "box-text": boxes("a", "b", "c", "d"),
            "box-empty": boxes("", "", "", ""),
            "box-swapped": boxes(10, 10, 1, 1),
            "box-flat": boxes(5, 5, 4, 10),
            "box-outside": boxes(400, 400, 500, 500),
            "box-digits": boxes("9" * 5000, 1, 10, 10),
            "size-0": _voc_folder(
                lambda: voc_xml([("cat", (1, 1, 10, 10))], size=(0, 0), filename="1.jpg")
            ),
            "size-text": _voc_folder(
                lambda: voc_xml([("cat", (1, 1, 10, 10))], size=("a", "b"), filename="1.jpg")
            ),
            "size-other": _voc_folder(
                lambda: voc_xml([("cat", (1, 1, 10, 10))], size=(4000, 3000), filename="1.jpg")
            ),
            "no-box": _voc_folder(lambda: good.replace("bndbox", "polygon")),
            "no-name": _voc_folder(lambda: good.replace("cat", "")),
            "other-root": _voc_folder(lambda: good.replace("annotation>", "annotations>")),
            "other-filename": _voc_folder(lambda: good.replace("1.jpg", "../../../etc/passwd")),
            "truncated": _voc_folder(lambda: good[: len(good) // 2]),
            "empty": _voc_folder(lambda: ""),
            "binary": _voc_folder(lambda: bytes(range(256))),
            "json": _voc_folder(lambda: "{}"),
            "no-objects": _voc_folder(lambda: voc_xml(filename="1.jpg")),
            "50000-objects": _voc_folder(
                lambda: voc_xml([("cat", (1, 1, 10, 10))] * 50_000, filename="1.jpg")
            ),
            "folder-called-xml": _folder_called_xml,
            "link-loop": _link_loop,
            "dead-link": _dead_link,
            "split-of-nothing": _voc_split,
        },
        used={
            "size-0": "the size is read from the file",
            "size-text": "the size is read from the file",
            "other-filename": "files are matched by their own names",
            "no-objects": "an image without objects",
            "50000-objects": "objects may be many, and alike",
            "link-loop": "a loop is entered once",
            "folder-called-xml": "a folder is no file",
        },
    )


def _folder_called_xml(folder: Path) -> Sequence[object]:
    arguments = _voc_folder(lambda: voc_xml(filename="1.jpg"))(folder)
    (folder / "voc" / "Annotations" / "3.xml").mkdir()
    return arguments


def _link_loop(folder: Path) -> Sequence[object]:
    arguments = _voc_folder(lambda: voc_xml(filename="1.jpg"))(folder)
    (folder / "voc" / "JPEGImages" / "again").symlink_to(folder / "voc", target_is_directory=True)
    (folder / "voc" / "Annotations" / "self").symlink_to(folder / "voc" / "Annotations" / "self")
    return arguments


def _dead_link(folder: Path) -> Sequence[object]:
    arguments = _voc_folder(lambda: voc_xml(filename="1.jpg"))(folder)
    (folder / "voc" / "JPEGImages" / "3.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "voc" / "JPEGImages" / "4.jpg").symlink_to(folder / "voc" / "JPEGImages" / "4.jpg")
    return arguments


def _voc_split(folder: Path) -> Sequence[object]:
    write_text(folder / "voc" / "ImageSets" / "Main" / "train.txt", "../../../etc/passwd\n9\n")
    return [*_voc_folder(lambda: voc_xml(filename="1.jpg"))(folder), "--split", "train"]


_LAUGHS = (
    '<!DOCTYPE x [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in itertools.pairwise("abcdefghi"))
    + "]>"
)
PROLOGUES = {
    "billion-laughs": (_LAUGHS, "&i;"),
    "quadratic": ('<!DOCTYPE x [<!ENTITY a "' + "h" * 100_000 + '">]>', "&a;" * 1000),
    "external-file": ('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>', "&a;"),
    "external-url": ('<!DOCTYPE x [<!ENTITY a SYSTEM "http://127.0.0.1:9/">]>', "&a;"),
    "parameter-entity": ('<!DOCTYPE x [<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;]>', "cat"),
    "doctype": ('<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">', "cat"),
    "undefined-entity": ("", "&nothing;"),
    "instruction": ('<?xml-stylesheet href="http://127.0.0.1:9/x.xsl"?>', "cat"),
    "inclusion": (
        "",
        '<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="/etc/passwd"/>',
    ),
    "utf-16-doctype": (_LAUGHS, "&i;"),
    "utf-7": ('<?xml version="1.0" encoding="utf-7"?>', "cat"),
    "nested-200000": ("", "<a>" * 200_000 + "</a>" * 200_000),
    "attributes-50000": ("", "<a " + " ".join(f'a{i}="1"' for i in range(50_000)) + "/>"),
    "text-20-mb": ("", "x" * 20_000_000),
    "character-0": ("", "&#0;"),
}


_IN_NAMES = ("inclusion", "nested-200000", "attributes-50000")


def _xml() -> list[Case]:
    def voc(name: str) -> Make:
        before, inside = PROLOGUES[name]
        text = before + voc_xml([(inside, (1, 1, 10, 10))], filename="1.jpg")
        return _voc_folder(lambda: text.encode("utf-16" if name.startswith("utf-16") else "utf-8"))

    def cvat(name: str) -> Make:
        before, inside = PROLOGUES[name]
        text = before + cvat_xml({"1.jpg": []}, labels=[inside])
        return _cvat_file(lambda: text.encode("utf-16" if name.startswith("utf-16") else "utf-8"))

    taken = {
        "instruction": "instructions are not followed",
        "text-20-mb": "a name may be long",
    }
    return [
        *family("XML in VOC", {name: voc(name) for name in PROLOGUES}, used=taken),
        *family(
            "XML in CVAT",
            {name: cvat(name) for name in PROLOGUES},
            used={**taken, **dict.fromkeys(_IN_NAMES, "elements inside a name are not read")},
        ),
    ]


def _cvat_file(content: Callable[[], bytes | str]) -> Make:
    def make(folder: Path) -> Sequence[object]:
        write_image(folder / "1.jpg")
        made = content()
        data = made if isinstance(made, bytes) else made.encode()
        (folder / "annotations.xml").write_bytes(data)
        return check(folder / "annotations.xml", "--format", "cvat")

    return make


def _cvat() -> list[Case]:
    def shape(tag: str, **attributes: Any) -> Make:
        return _cvat_file(lambda: cvat_xml({"1.jpg": [cvat_shape(tag, **attributes)]}))

    corners = {"xtl": 1, "ytl": 2, "xbr": 10, "ybr": 12}
    return family(
        "CVAT",
        {
            "box-nan": shape("box", **{**corners, "xtl": "nan"}),
            "box-infinite": shape("box", **{**corners, "xbr": "inf"}),
            "box-missing": shape("box"),
            "box-text": shape("box", **{**corners, "xtl": "one"}),
            "box-outside": shape("box", xtl=100, ytl=100, xbr=200, ybr=200),
            "rotation-nan": shape("box", **corners, rotation="nan"),
            "rotation-1e300": shape("box", **corners, rotation="1e300"),
            "polygon-empty": shape("polygon", points=""),
            "polygon-text": shape("polygon", points="a,b;c,d"),
            "polygon-infinite": shape("polygon", points="1,1;inf,2;3,3"),
            "ellipse-negative": shape("ellipse", cx=10, cy=10, rx=-5, ry=5),
            "mask-huge": shape("mask", left=0, top=0, width="1e30", height=5, rle="1," * 1000),
            "polyline": shape("polyline", points="1,1;2,2"),
            "skeleton": shape("skeleton"),
            "label-missing": _cvat_file(
                lambda: cvat_xml({"1.jpg": ['<box xtl="1" ytl="1" xbr="9" ybr="9"/>']})
            ),
            "label-undeclared": shape("box", label="yak", **corners),
            "image-without-name": _cvat_file(lambda: cvat_xml({"": []})),
            "image-traversal": _cvat_file(lambda: cvat_xml({"../../../../etc/passwd": []})),
            "image-twice": _cvat_file(
                lambda: cvat_xml({"1.jpg": []}).replace(
                    "</annotations>", '<image id="9" name="1.jpg"/></annotations>'
                )
            ),
            "tracks": _cvat_file(lambda: "<annotations><track id='0'/></annotations>"),
            "other-root": _cvat_file(lambda: "<html/>"),
            "empty": _cvat_file(lambda: ""),
            "truncated": _cvat_file(lambda: cvat_xml({"1.jpg": []})[:60]),
            "20000-labels": _cvat_file(
                lambda: cvat_xml({"1.jpg": []}, labels=[f"c{i}" for i in range(20_000)])
            ),
            "0-labels": _cvat_file(lambda: cvat_xml({"1.jpg": []}, labels=[])),
        },
        used={
            "label-undeclared": "a class of its own",
            "20000-labels": "that many classes are allowed",
            "0-labels": "an image of no class",
        },
    )


def _yolo_set(
    label: Callable[[], bytes | str] = lambda: "0 0.5 0.5 0.2 0.2\n",
    yaml: str = "train: images\nnames: [cat, dog]\n",
    *options: object,
) -> Make:
    def make(folder: Path) -> Sequence[object]:
        for name in ("x", "y"):
            write_image(folder / "images" / f"{name}.png", seed=ord(name))
            write_text(folder / "labels" / f"{name}.txt", "0 0.5 0.5 0.2 0.2\n")
        made = label()
        data = made if isinstance(made, bytes) else made.encode()
        (folder / "labels" / "x.txt").write_bytes(data)
        (folder / "data.yaml").write_bytes(yaml.encode("utf-8", "surrogatepass"))
        return check(folder / "data.yaml", *options)

    return make


YAML_OBJECTS = {
    "python-system": "!!python/object/apply:os.system ['touch harmed']",
    "python-new": "!!python/object/new:subprocess.Popen [['touch', 'harmed']]",
    "python-name": "!!python/name:os.system",
    "python-module": "!!python/module:os",
    "python-tuple": "!!python/tuple [1, 2]",
    "unknown-tag": "!thing 1",
    "laughs": "&a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b]\n"
    "d: &d [*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d]",
    "itself": "&a [*a]",
    "deep": "[" * 5000 + "]" * 5000,
    "unclosed": "[1, 2",
    "tab": "\t- 1",
    "control": "\x00\x01",
    "anchor-missing": "*nothing",
    "date": "2020-99-99",
    "sexagesimal": "1:99:99:99",
    "number": "1" * 5000,
    "merge": "{<<: 5}",
    "key-list": "{[1, 2]: 3}",
}


def _yolo() -> list[Case]:
    labels: dict[str, Callable[[], bytes | str]] = {
        "text": lambda: "a cat in the middle",
        "four-values": lambda: "0 0.5 0.5 0.2",
        "six-values": lambda: "0 0.5 0.5 0.2 0.2 0.9",
        "nan": lambda: "0 nan 0.5 0.2 0.2",
        "infinite": lambda: "0 inf 0.5 0.2 0.2",
        "pixels": lambda: "0 20 15 10 10",
        "negative-class": lambda: "-1 0.5 0.5 0.2 0.2",
        "class-1.5": lambda: "1.5 0.5 0.5 0.2 0.2",
        "class-99": lambda: "99 0.5 0.5 0.2 0.2",
        "class-2^63": lambda: f"{2**63} 0.5 0.5 0.2 0.2",
        "class-name": lambda: "cat 0.5 0.5 0.2 0.2",
        "zero-size": lambda: "0 0.5 0.5 0 0",
        "negative-size": lambda: "0 0.5 0.5 -0.2 -0.2",
        "twice": lambda: "0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2",
        "commas": lambda: "0,0.5,0.5,0.2,0.2",
        "binary": lambda: bytes(range(256)),
        "utf-16": lambda: "0 0.5 0.5 0.2 0.2".encode("utf-16"),
        "one-line-of-2-mb": lambda: "0 " + "0.5 " * 500_000,
        "200000-lines": lambda: "".join(f"0 0.5 0.5 0.{i:06d} 0.2\n" for i in range(200_000)),
        "empty": lambda: "",
        "nul": lambda: "0 0.5\0 0.5 0.2 0.2",
        "digits": lambda: "0 0.5 0.5 0.2 " + "1" * 5000,
    }
    yamls = {
        "empty": "",
        "list": "- a\n- b\n",
        "text": "hello",
        "no-splits": "names: [cat]\n",
        "train-number": "train: 5\nnames: [cat]\n",
        "train-nul": 'train: "a\\0b"\nnames: [cat]\n',
        "train-nowhere": "train: nowhere\nnames: [cat]\n",
        "train-traversal": "train: ../../../../../../../../etc\nnames: [cat]\n",
        "train-whole-disk": "train: /\nnames: [cat]\n",
        "train-url": "train: http://127.0.0.1:9/x\nnames: [cat]\n",
        "path-number": "path: 5\ntrain: images\nnames: [cat]\n",
        "path-nowhere": "path: /nowhere\ntrain: missing\nnames: [cat]\n",
        "names-number": "train: images\nnames: 5\n",
        "names-text": "train: images\nnames: cat\n",
        "names-gap": "train: images\nnames: {0: cat, 2: dog}\n",
        "names-keys": "train: images\nnames: {cat: 0}\n",
        "names-empty": "train: images\nnames: []\n",
        "names-nested": "train: images\nnames: [[cat], {a: b}]\n",
        "names-null": "train: images\nnames: [null, null]\n",
        "names-same": "train: images\nnames: [cat, cat]\n",
        "names-20000": f"train: images\nnames: [{', '.join(f'c{i}' for i in range(20_000))}]\n",
        "nc-other": "train: images\nnames: [cat]\nnc: 2\n",
        "nc-only-10^12": "train: images\nnc: 1000000000000\n",
        "nc-text": "train: images\nnc: many\n",
        "nc-superscript": "train: images\nnc: '²'\n",
        "download": "train: images\nnames: [cat, dog]\ndownload: open('harmed', 'w')\n",
        **{f"value-{key}": f"train: images\nnames: {v}\n" for key, v in YAML_OBJECTS.items()},
    }
    return [
        *family(
            "YOLO labels",
            {name: _yolo_set(content) for name, content in labels.items()},
            used={"empty": "an image without objects"},
        ),
        *family(
            "YOLO data.yaml",
            {
                **{name: _yolo_set(yaml=text) for name, text in yamls.items()},
                "split-of-nothing": _yolo_set(
                    lambda: "", "train: images\nnames: [cat]\n", "--split", "../../etc"
                ),
            },
            used={
                "names-20000": "that many classes are allowed",
                "names-nested": "any name is text",
                "names-empty": "as if no names were given: classes have their numbers",
                "train-traversal": "a set may lie anywhere; only images and labels are read",
                "value-itself": "any name is text",
                "download": "nothing is downloaded or run",
            },
        ),
    ]


def _tasks(content: Callable[[], Any]) -> Make:
    def make(folder: Path) -> Sequence[object]:
        write_image(folder / "1.jpg")
        write_text(folder / "export.json", json.dumps(content()))
        return check(folder / "export.json")

    return make


def _label_studio() -> list[Case]:
    def value(**changes: Any) -> Make:
        box = {"x": 25, "y": 20, "width": 20, "height": 40, "rotation": 0}
        region = ls_region("rectangle", box)
        return _tasks(lambda: [ls_task(1, [{**region, "value": {**region["value"], **changes}}])])

    def task(**changes: Any) -> Make:
        return _tasks(lambda: [{**ls_task(1, [ls_box()]), **changes}])

    def result(**changes: Any) -> Make:
        return _tasks(lambda: [ls_task(1, [{**ls_box(), **changes}])])

    return family(
        "Label Studio",
        {
            "x-nan": value(x=float("nan")),
            "width-infinite": value(width=float("inf")),
            "width-10^400": value(width=10**400),
            "x-text": value(x="25"),
            "x-null": value(x=None),
            "width-negative": value(width=-5),
            "rotation-nan": value(rotation=float("nan")),
            "rotation-text": value(rotation="left"),
            "labels-number": value(rectanglelabels=5),
            "labels-two": value(rectanglelabels=["a", "b"]),
            "labels-none": value(rectanglelabels=[]),
            "value-list": result(value=[1]),
            "value-missing": result(value=None),
            "type-number": result(type=5),
            "type-brush": result(type="brushlabels"),
            "size-0": result(original_width=0, original_height=0),
            "size-huge": result(original_width=1e30, original_height=1e30),
            "annotations-number": task(annotations=5),
            "annotations-numbers": task(annotations=[1, 2]),
            "annotations-empty": task(annotations=[]),
            "data-missing": task(data=None),
            "data-number": task(data=5),
            "data-empty": task(data={}),
            "image-number": task(data={"image": 5}),
            "image-nul": task(data={"image": "a\0b.jpg"}),
            "image-traversal": task(data={"image": "../../../../../../etc/passwd"}),
            "image-local-traversal": task(
                data={"image": "/data/local-files/?d=../../../../../etc/passwd"}
            ),
            "image-url": task(data={"image": "http://127.0.0.1:9/x.jpg"}),
            "image-bad-url": task(data={"image": "http://[::1/x.jpg"}),
            "image-file-url": task(data={"image": "file:///etc/passwd"}),
            "id-twice": _tasks(lambda: [ls_task(1, [ls_box()], detal_image_id="a")] * 2),
            "date-nonsense": _tasks(
                lambda: [
                    {
                        **ls_task(1),
                        "annotations": [
                            {"id": 1, "result": [], "updated_at": "9999-99-99T99:99"},
                            {"id": "x", "result": [], "updated_at": 5},
                        ],
                    }
                ]
            ),
            "date-year-1": _tasks(
                lambda: [
                    {
                        **ls_task(1),
                        "annotations": [
                            {"id": 1, "result": [], "updated_at": "0001-01-01T00:00:00+23:59"},
                            {"id": 2, "result": [], "updated_at": "9999-12-31T23:59:59-23:59"},
                        ],
                    }
                ]
            ),
            "result-text": _tasks(lambda: [ls_task(1, ["x"])]),
            "tasks-numbers": _tasks(lambda: [1, None, "x", []]),
            "tasks-empty": _tasks(list),
            "flat-nonsense": _tasks(lambda: [{"annotation_id": {}, "image": "1.jpg", "a": [[]]}]),
        },
        used={
            "size-0": "the size is read from the file",
            "size-huge": "the size is read from the file",
            "type-number": "the value tells the shape",
            "type-brush": "the value tells the shape",
            "value-list": "not a region, as choices and texts are none",
            "value-missing": "not a region, as choices and texts are none",
            "flat-nonsense": "an annotation without objects",
            "tasks-empty": "a set may be empty",
        },
    )


def _names() -> list[Case]:
    def coco(name: str) -> Make:
        return _coco_file(lambda: _document(categories=[{"id": 1, "name": name}]))

    def yolo(name: str) -> Make:
        return _yolo_set(yaml=f"train: images\nnames: {json.dumps([name, 'dog'])}\n")

    def cvat(name: str) -> Make:
        from xml.sax.saxutils import escape

        return _cvat_file(lambda: cvat_xml({"1.jpg": []}, labels=[escape(name)]))

    any_text = "a class may have any name; everything that shows it escapes it"
    taken = dict.fromkeys(ODD_NAMES, any_text)
    return [
        *family("class names in COCO", {k: coco(v) for k, v in ODD_NAMES.items()}, used=taken),
        *family("class names in YOLO", {k: yolo(v) for k, v in ODD_NAMES.items()}, used=taken),
        *family(
            "class names in CVAT",
            {k: cvat(v) for k, v in ODD_NAMES.items() if k != "escape"},
            used={k: v for k, v in taken.items() if k != "escape"},
        ),
    ]
