"""One HTML file with everything in it: styles, scripts and data, under a strict policy.

Texts pass through jinja2's escaping; data go into ``<script type="application/json">`` with every
``<`` written as an escape, so that no class or file name can end the element. The content security
policy allows the page's own scripts and styles by their hash and nothing else: no network, no
inline handlers, no style attributes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from detal.files import write_atomic
from detal.report.style import class_color

__all__ = ["class_hex", "plural", "policy", "render", "script_json", "write_page"]

_ASSETS = Path(__file__).parent / "assets"
_ESCAPES = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}


def render(
    template: str, *, scripts: Sequence[str], context: dict[str, Any], served: bool = False
) -> str:
    """Fill a template of ``assets/``.

    Args:
        template: Its name.
        scripts: Names of the JavaScript files that go into the page, in this order.
        context: What the template reads.
        served: Whether a server answers on the page's own address, for pictures and decisions.
    """
    style = _asset("page.css")
    sources = [_asset(name) for name in scripts]
    rules = policy([style], sources, served=served)
    return (
        _environment()
        .get_template(template)
        .render(
            policy=rules,
            style=Markup(style),
            scripts=[Markup(source) for source in sources],
            **context,
        )
    )


def policy(styles: Sequence[str], scripts: Sequence[str], *, served: bool) -> str:
    """The content security policy that allows these texts and nothing else."""
    rules = {
        "default-src": "'none'",
        "style-src": " ".join(map(_hash, styles)),
        "script-src": " ".join(map(_hash, scripts)) or "'none'",
        "img-src": "data: 'self'" if served else "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
    }
    if served:
        rules["connect-src"] = "'self'"
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def script_json(value: Any) -> Markup:
    """JSON that is safe inside a ``<script>`` element.

    Raises:
        ValueError: If a number is not finite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character, escaped in _ESCAPES.items():
        text = text.replace(character, escaped)
    return Markup(text)


def write_page(path: Path, text: str) -> None:
    """Write a page in one step; what UTF-8 cannot hold (odd file names) becomes ``?``."""
    write_atomic(path, text.encode("utf-8", "replace"))


def class_hex(label: int) -> str:
    """The colour of class ``label`` as the pictures have it, ``#rrggbb``."""
    return "#" + "".join(f"{round(255 * part):02x}" for part in class_color(label))


def plural(number: float, noun: str) -> str:
    """``1 image``, ``2,000 images``, ``3 strategies``."""
    if noun.endswith("y"):
        many = noun[:-1] + "ies"
    else:
        many = noun + ("es" if noun.endswith(("x", "ss")) else "s")
    return f"{number:,.12g} {noun if number == 1 else many}"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["script_json"] = script_json
    environment.globals["plural"] = plural
    environment.globals["class_hex"] = class_hex
    return environment


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
