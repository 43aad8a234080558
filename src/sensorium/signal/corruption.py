"""What spoils recordings in the world, by degrees: noise, gaps, drift, boxes and blur, on arrays as they are stored.

Each takes a level above 0 and up to 1, and draws as much from ``rng`` whatever the level: the same generator gives the same
accident, larger.
"""

from __future__ import annotations

import numpy as np

from sensorium.core.modality import Array

LOUD, QUIET = 30.0, -10.0
"""Decibels of signal over noise at a level near 0 and at 1."""


def noisy_picture(pixels: Array, level: float, rng: np.random.Generator) -> Array:
    """``[C, H, W]`` uint8 with Gaussian noise of up to half the range of brightness."""
    noise = rng.standard_normal(pixels.shape, dtype=np.float32)
    spoiled: Array = (pixels + 128 * level * noise).round().clip(0, 255).astype(np.uint8)
    return spoiled


def occluded(pixels: Array, level: float, rng: np.random.Generator, fill: Array) -> Array:
    """``[C, H, W]`` with a box over a share ``level`` of it, ``fill`` ``[C]`` in colour; at 1 all is covered."""
    height, width = pixels.shape[1:]
    place = rng.random(2)
    high, wide = round(height * level**0.5), round(width * level**0.5)
    top, left = round(place[0] * (height - high)), round(place[1] * (width - wide))
    spoiled = pixels.copy()
    spoiled[:, top : top + high, left : left + wide] = fill[:, None, None]
    return spoiled


def blurred(pixels: Array, level: float) -> Array:
    """``[C, H, W]`` uint8 under a Gaussian blur whose deviation is up to an eighth of the shorter side."""
    sigma = level * min(pixels.shape[1:]) / 8
    reach = max(1, int(np.ceil(3 * sigma)))
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    bell /= bell.sum()
    soft = pixels.astype(np.float64)
    for axis in (1, 2):
        edges = [(0, 0)] * 3
        edges[axis] = (reach, reach)
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(soft, edges, mode="edge"), 2 * reach + 1, axis=axis)
        soft = windows @ bell
    spoiled: Array = soft.round().clip(0, 255).astype(np.uint8)
    return spoiled


def noisy_sound(samples: Array, level: float, rng: np.random.Generator) -> Array:
    """``[T]`` int16 in white noise: from 30 dB signal over noise down to −10 dB at level 1."""
    noise = rng.standard_normal(len(samples))
    power = max(float(np.mean(np.square(samples, dtype=np.float64))), 1.0) if len(samples) else 1.0
    decibels = LOUD + (QUIET - LOUD) * level
    spoiled: Array = (samples + noise * np.sqrt(power / 10 ** (decibels / 10))).round().clip(-32768, 32767).astype(np.int16)
    return spoiled


def gap(steps: int, level: float, rng: np.random.Generator) -> Array:
    """``[steps]`` bool: one stretch of a share ``level`` of the time, which may run over the end and on from the start."""
    start = rng.random()
    inside: Array = np.mod((np.arange(steps) + 0.5) / max(steps, 1) - start, 1.0) < level
    return inside


def drift(steps: int, channels: int, level: float, rng: np.random.Generator) -> Array:
    """``[steps, channels]``: a straight line from 0 to three deviations up or down at level 1, a sign each channel."""
    sign = rng.choice([-1.0, 1.0], size=channels)
    line: Array = 3 * level * np.linspace(0, 1, steps)[:, None] * sign
    return line
