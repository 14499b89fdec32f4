"""One scene: a background, digits and occluders on it, and how its frames are rendered."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from detal.sandbox.backgrounds import draw_background
from detal.sandbox.digits import Handwriting, draw_digit

__all__ = ["MAX_DIGITS", "MIN_VISIBLE", "Placed", "Scene", "draw_scene", "render"]

MIN_VISIBLE = 0.5
"""Share of a digit's ink that stays visible under whatever covers it."""

MAX_DIGITS = 20

_SIZES_PX = (10.0, 60.0)
_CROWDED_SIZES_PX = (10.0, 24.0)
_OCCLUDED = 0.15  # of the digits that are wide enough
_MAX_FRAMES = 10
_PAN_PX = 2.0
_LUMA = np.array([0.114, 0.587, 0.299])  # of B, G, R


@dataclass(frozen=True, eq=False)
class Sprite:
    """Something opaque that lies on the background: a digit, or an occluder (label -1).

    Attributes:
        alpha: (h, w) float32 opacity.
        ink: (3,) BGR.
        xy: Left and top in the first frame, pixels.
        velocity: Pixels per frame.
        label: Class, or -1.
        sample: Row of the handwriting sample, or -1.
    """

    alpha: NDArray[np.float32]
    ink: NDArray[np.float64]
    xy: NDArray[np.float64]
    velocity: NDArray[np.float64]
    label: int = -1
    sample: int = -1


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything that the frames of one scene share.

    Attributes:
        canvas: Background, larger than a frame by the way the camera may pan.
        pan: Pixels per frame, x and y.
        sprites: Painted in this order.
        size_px: Width and height of a frame.
        blur_px: Standard deviation of the blur; 0 for none.
        noise: Standard deviation of the sensor noise in grey levels.
    """

    canvas: NDArray[np.float32]
    pan: NDArray[np.float64]
    sprites: tuple[Sprite, ...]
    size_px: int
    blur_px: float
    noise: float


@dataclass(frozen=True)
class Placed:
    """A digit in a rendered frame.

    Attributes:
        label: Class.
        sample: Row of the handwriting sample.
        bbox_xywh: Left, top, width and height of the whole digit, also where it is covered.
        visible: Share of its ink that is not covered, ``MIN_VISIBLE`` to 1.
    """

    label: int
    sample: int
    bbox_xywh: tuple[int, int, int, int]
    visible: float


def draw_scene(
    rng: np.random.Generator,
    *,
    size_px: int,
    prior: NDArray[np.float64],
    source: Handwriting,
    first_label: int | None = None,
) -> Scene:
    """A scene of 0 to 20 digits (4 % empty, 7 % crowded).

    Args:
        rng: Generator of this scene.
        size_px: Width and height of a frame.
        prior: (10,) class probabilities of the digits.
        source: Handwriting to draw from.
        first_label: Class of a digit that must be there, or None.
    """
    margin = int(np.ceil(_PAN_PX * _MAX_FRAMES))
    canvas = draw_background(size_px + 2 * margin, rng=rng)
    backdrop = canvas[margin : margin + size_px, margin : margin + size_px]
    labels, sizes_px = _draw_contents(rng, prior, first_label, size_px)
    sprites: list[Sprite] = []
    for label, height_px in zip(labels, sizes_px, strict=True):
        sample = int(rng.choice(source.samples[label]))
        alpha = draw_digit(source.pixels[sample], height_px=height_px, rng=rng)
        xy = _free_place(alpha, [s for s in sprites if s.label >= 0], size_px, rng)
        if xy is None:
            continue
        ink = _ink(_under(backdrop, alpha, xy), rng)
        velocity = rng.uniform(-1.5, 1.5, 2)
        sprites.append(Sprite(alpha, ink, xy, velocity, label=label, sample=sample))
    sprites += [
        _occluder(s, rng) for s in sprites if min(s.alpha.shape) > 9 and rng.random() < 0.15
    ]
    return Scene(
        canvas=canvas,
        pan=rng.uniform(-_PAN_PX, _PAN_PX, 2),
        sprites=tuple(sprites),
        size_px=size_px,
        blur_px=float(rng.uniform(0.4, 1.0)) if rng.random() < 0.35 else 0.0,
        noise=float(rng.uniform(1.0, 6.0)),
    )


def _draw_contents(
    rng: np.random.Generator, prior: NDArray[np.float64], first_label: int | None, size_px: int
) -> tuple[list[int], NDArray[np.float64]]:
    """Labels and heights in pixels of the digits to place."""
    kind = rng.random()
    count = 1 + min(5, int(rng.poisson(1.7)))
    low, high = _SIZES_PX
    if kind < 0.04 and first_label is None:
        count = 0
    elif kind > 0.93:
        count = int(rng.integers(10, MAX_DIGITS + 1))
        low, high = _CROWDED_SIZES_PX
    labels = rng.choice(len(prior), size=count, p=prior).tolist()
    if first_label is not None:
        labels[0] = first_label
    high = min(high, 0.4 * size_px)
    return labels, low + (high - low) * rng.random(count) ** 1.5


def _free_place(
    alpha: NDArray[np.float32], others: list[Sprite], size_px: int, rng: np.random.Generator
) -> NDArray[np.float64] | None:
    """Left and top of a place that overlaps no other digit by more than a fifth of the smaller."""
    wh = np.array(alpha.shape[::-1], dtype=np.float64)
    for _ in range(20):
        xy = rng.integers(0, size_px - wh.astype(int) + 1).astype(np.float64)
        for other in others:
            other_wh = np.array(other.alpha.shape[::-1], dtype=np.float64)
            shared = np.minimum(xy + wh, other.xy + other_wh) - np.maximum(xy, other.xy)
            smaller = min(wh.prod(), other_wh.prod())
            if (shared > 0).all() and shared.prod() > 0.2 * smaller:
                break
        else:
            return xy
    return None


def _under(
    image: NDArray[np.float32], alpha: NDArray[np.float32], xy: NDArray[np.float64]
) -> NDArray[np.float32]:
    """(h, w, 3) view of the image under a patch."""
    left, top = int(xy[0]), int(xy[1])
    return image[top : top + alpha.shape[0], left : left + alpha.shape[1]]


def _ink(local: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float64]:
    """(3,) a colour that stands out from ``local`` (h, w, 3), lighter or darker, weak or strong."""
    mean = local.reshape(-1, 3).mean(axis=0).astype(np.float64)
    contrast = max(45.0, 1.3 * float((local @ _LUMA).std())) + rng.uniform(0.0, 110.0)
    sign = rng.choice([-1.0, 1.0])
    brightness = float(mean @ _LUMA)
    if not 0.0 <= brightness + sign * contrast <= 255.0:
        sign = 1.0 if brightness < 127.5 else -1.0
    tint = rng.normal(0.0, 0.35, 3)
    colour = mean + sign * contrast * (1.0 + tint - tint @ _LUMA)
    return np.asarray(np.clip(colour, 0.0, 255.0))


def _occluder(digit: Sprite, rng: np.random.Generator) -> Sprite:
    """A bar across a digit or a block over a corner of it, which moves along with it."""
    height, width = digit.alpha.shape
    if rng.random() < 0.6:
        thick = rng.uniform(0.15, 0.35)
        shape = (height, int(width * thick)) if rng.random() < 0.5 else (int(height * thick), width)
    else:
        shape = (int(height * rng.uniform(0.3, 0.6)), int(width * rng.uniform(0.3, 0.6)))
    alpha = np.ones((max(2, shape[0]), max(2, shape[1])), np.float32)
    room = np.array([width - alpha.shape[1], height - alpha.shape[0]])
    xy = digit.xy + np.floor(rng.uniform(0.0, 1.0, 2) * (room + 1))
    return Sprite(alpha, rng.uniform(0.0, 255.0, 3), xy, digit.velocity)


def render(
    scene: Scene, frame: int, *, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], list[Placed]]:
    """One frame of a scene.

    A digit or occluder that would leave less than ``MIN_VISIBLE`` of a digit below it is left out.

    Args:
        scene: The scene.
        frame: 0 to 9.
        rng: Generator of this frame (sensor noise, exposure).

    Returns:
        (size, size, 3) uint8 BGR and the digits in it.
    """
    image = _crop(scene, frame)
    digits: list[tuple[Sprite, NDArray[np.float64]]] = []
    clear: list[NDArray[np.float32]] = []  # per digit: what of its opacity nothing covers
    for sprite in scene.sprites:
        wh = np.array(sprite.alpha.shape[::-1])
        xy = np.clip(np.round(sprite.xy + frame * sprite.velocity), 0, scene.size_px - wh)
        covered = _cover(clear, digits, sprite, xy)
        if covered is None:
            continue
        clear = covered
        under = _under(image, sprite.alpha, xy)
        under += sprite.alpha[..., None] * (sprite.ink.astype(np.float32) - under)
        if sprite.label >= 0:
            digits.append((sprite, xy))
            clear.append(sprite.alpha)
    placed = [_placed(sprite, xy, rest) for (sprite, xy), rest in zip(digits, clear, strict=True)]
    return _expose(image, scene, frame, rng), placed


def _cover(
    clear: list[NDArray[np.float32]],
    digits: list[tuple[Sprite, NDArray[np.float64]]],
    sprite: Sprite,
    xy: NDArray[np.float64],
) -> list[NDArray[np.float32]] | None:
    """What stays clear of each digit once ``sprite`` lies at ``xy``; None if that is too little."""
    result = []
    high = xy + sprite.alpha.shape[::-1]
    for rest, (digit, digit_xy) in zip(clear, digits, strict=True):
        left, top = np.maximum(xy, digit_xy).astype(int)
        right, bottom = np.minimum(high, digit_xy + digit.alpha.shape[::-1]).astype(int)
        if left < right and top < bottom:
            rest = rest.copy()
            x, y = digit_xy.astype(int)
            u, v = xy.astype(int)
            over = sprite.alpha[top - v : bottom - v, left - u : right - u]
            rest[top - y : bottom - y, left - x : right - x] *= 1.0 - over
            if rest.sum() < MIN_VISIBLE * digit.alpha.sum():
                return None
        result.append(rest)
    return result


def _placed(sprite: Sprite, xy: NDArray[np.float64], rest: NDArray[np.float32]) -> Placed:
    height, width = sprite.alpha.shape
    visible = float(rest.sum() / sprite.alpha.sum())
    return Placed(
        sprite.label, sprite.sample, (int(xy[0]), int(xy[1]), width, height), round(visible, 3)
    )


def _crop(scene: Scene, frame: int) -> NDArray[np.float32]:
    margin = (len(scene.canvas) - scene.size_px) // 2
    left, top = (margin + np.round(frame * scene.pan)).astype(int)
    view = scene.canvas[top : top + scene.size_px, left : left + scene.size_px]
    return np.array(view)


def _expose(
    image: NDArray[np.float32], scene: Scene, frame: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Blur, exposure drift (none in the first frame) and sensor noise."""
    if scene.blur_px > 0:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), scene.blur_px), dtype=np.float32)
    drift = rng.normal(0.0, 3.0) if frame else 0.0
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(scene.noise)
    return np.asarray(np.clip(image + drift + noise, 0, 255), dtype=np.uint8)
