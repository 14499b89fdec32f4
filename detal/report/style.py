"""Colours and fonts of the pictures."""

from __future__ import annotations

import colorsys
from functools import lru_cache

from matplotlib import font_manager

__all__ = ["ACCENT", "INK", "MUTED", "PAPER", "TILE", "class_color", "font_families", "short"]

INK = "#1f2430"
MUTED = "#6b7280"
PAPER = "#ffffff"
TILE = "#f1f3f6"
ACCENT = "#e8590c"

_GOLDEN = 0.618033988749895
_BRIGHTEST = 0.45
# Tried in this order for what the first one lacks; only installed ones are passed on, because
# matplotlib logs a line for each family that it cannot find.
_FAMILIES = (
    "DejaVu Sans",
    "Noto Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Micro Hei",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Arial Unicode MS",
    "Noto Sans Devanagari",
    "Noto Emoji",
    "Segoe UI Emoji",
)


@lru_cache(maxsize=1)
def font_families() -> list[str]:
    """Installed font families to fall back on, first choice first; never empty."""
    installed = {entry.name for entry in font_manager.fontManager.ttflist}
    return [family for family in _FAMILIES if family in installed] or ["sans-serif"]


def class_color(label: int) -> tuple[float, float, float]:
    """A colour for class ``label`` on which white text is legible; neighbours differ clearly."""
    lightness = (0.46, 0.36, 0.54)[(label // 7) % 3]
    red, green, blue = colorsys.hls_to_rgb((0.58 + label * _GOLDEN) % 1.0, lightness, 0.8)
    brightness = 0.3 * red + 0.6 * green + 0.1 * blue
    dim = min(1.0, _BRIGHTEST / brightness)
    return red * dim, green * dim, blue * dim


def short(text: str, width: int) -> str:
    """``text`` on one line and at most ``width`` characters long."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
