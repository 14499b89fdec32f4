"""Textured backgrounds with clutter that is no digit. Images are (H, W, 3) BGR."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["draw_background"]

Field = NDArray[np.float32]


def draw_background(side_px: int, *, rng: np.random.Generator) -> Field:
    """(side_px, side_px, 3) float32 in [0, 255]: two colours blended by a texture, with clutter."""
    dark, light = rng.uniform(15.0, 240.0, (2, 3))
    light = dark + rng.uniform(0.15, 0.8) * (light - dark)
    saturation = rng.uniform(0.1, 1.0)
    dark, light = (c.mean() + saturation * (c - c.mean()) for c in (dark, light))
    field = _texture(side_px, rng)[..., None]
    canvas = dark + (light - dark) * field
    # A little grain of its own in each channel, else the texture is one-dimensional in colour.
    canvas += rng.uniform(0.0, 14.0) * np.stack([_noise(side_px, rng) for _ in range(3)], axis=-1)
    return _clutter(np.clip(canvas, 0, 255).astype(np.uint8), rng).astype(np.float32)


def _texture(side: int, rng: np.random.Generator) -> Field:
    """(side, side) about 0 to 1: a blend of two of gradient, stripes, noise and tiles."""
    kinds = (_ramp, _stripes, _noise, _tiles)
    first, second = rng.choice(len(kinds), size=2, replace=False)
    share = rng.uniform(0.0, 1.0)
    blend = share * kinds[first](side, rng) + (1.0 - share) * kinds[second](side, rng)
    return np.asarray(0.5 + 0.5 * blend, dtype=np.float32)


def _ramp(side: int, rng: np.random.Generator) -> Field:
    """(side, side) coordinate along a random direction, -1 to 1."""
    angle = rng.uniform(0.0, 2 * np.pi)
    axis = np.linspace(-1.0, 1.0, side, dtype=np.float32)
    ramp = np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None]
    return np.asarray(ramp / 1.42, dtype=np.float32)


def _stripes(side: int, rng: np.random.Generator) -> Field:
    period_px = np.exp(rng.uniform(np.log(5.0), np.log(60.0)))
    wave = np.sin(_ramp(side, rng) * (np.pi * side / period_px) + rng.uniform(0.0, 6.3))
    if rng.random() < 0.4:
        wave = np.sign(wave)
    return np.asarray(wave, dtype=np.float32)


def _noise(side: int, rng: np.random.Generator) -> Field:
    """Noise of several octaves, about -1 to 1, each octave weaker by a random factor."""
    decay = rng.uniform(0.4, 0.8)
    total, weight, field = np.zeros((side, side), np.float32), 1.0, 3
    while field < side:
        grid = rng.uniform(-1.0, 1.0, (field, field)).astype(np.float32)
        total += weight * cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
        weight, field = weight * decay, field * 2
    return np.asarray(np.clip(total / 1.5, -1.0, 1.0), dtype=np.float32)


def _tiles(side: int, rng: np.random.Generator) -> Field:
    count = int(rng.integers(3, 12))
    grid = rng.uniform(-1.0, 1.0, (count, count)).astype(np.float32)
    tiles = cv2.resize(grid, (side, side), interpolation=cv2.INTER_NEAREST)
    return np.asarray(tiles, dtype=np.float32)


def _clutter(canvas: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Bent strokes, lines, ellipses and blocks drawn over the canvas, at most about a dozen."""
    area = canvas.shape[0] * canvas.shape[1] / 160**2
    for _ in range(min(60, rng.poisson(rng.choice([1.0, 5.0]) * area))):
        size = np.exp(rng.uniform(np.log(6.0), np.log(50.0)))
        centre = rng.uniform(0.0, canvas.shape[0], 2)
        local = canvas[tuple(np.clip(centre[::-1].astype(int), 0, canvas.shape[0] - 1))]
        colour = np.clip(local + rng.normal(0.0, 55.0, 3), 0, 255).tolist()
        thickness = int(rng.integers(1, 2 + int(size / 9)))
        match rng.integers(0, 4):
            case 0 | 1:
                points = _bent_stroke(centre, size, rng)
                cv2.polylines(canvas, [points], False, colour, thickness, cv2.LINE_AA)
            case 2:
                axes = (max(2, int(size / 2)), max(2, int(size * rng.uniform(0.1, 0.5))))
                place = (int(centre[0]), int(centre[1]))
                turn = float(rng.uniform(0.0, 180.0))
                sweep = float(rng.uniform(90.0, 360.0))
                cv2.ellipse(canvas, place, axes, turn, 0, sweep, colour, thickness, cv2.LINE_AA)
            case _:
                half = rng.uniform(0.1, 0.5, 2) * size
                low, high = (centre - half).astype(int), (centre + half).astype(int)
                cv2.rectangle(canvas, low.tolist(), high.tolist(), colour, -1)
    return canvas


def _bent_stroke(
    centre: NDArray[np.float64], size: float, rng: np.random.Generator
) -> NDArray[np.int32]:
    """(12, 1, 2) points of a quadratic Bézier curve."""
    start, control, end = centre + rng.uniform(-0.5, 0.5, (3, 2)) * size * 1.4
    t = np.linspace(0.0, 1.0, 12)[:, None]
    points = (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end
    return np.asarray(points.round(), dtype=np.int32).reshape(-1, 1, 2)
