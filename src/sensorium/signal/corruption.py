"""Graded corruptions of stored arrays for robustness tests: noise, gaps, drift, occlusion, blur and smaller files.

Each takes a level above 0 and up to 1, and draws the same numbers from ``rng`` at every level: with the same generator,
a higher level is a stronger version of the same corruption.
"""

from __future__ import annotations

import numpy as np

from sensorium.core.modality import Array

LOUD, QUIET = 30.0, -10.0
"""Signal-to-noise ratio in dB at a level near 0 and at level 1."""


def noisy_picture(pixels: Array, level: float, rng: np.random.Generator) -> Array:
    """Add Gaussian noise to ``pixels`` ``[C, H, W]`` uint8: deviation 128 times ``level``, drawn from ``rng``."""
    noise = rng.standard_normal(pixels.shape, dtype=np.float32)
    corrupted: Array = (pixels + 128 * level * noise).round().clip(0, 255).astype(np.uint8)
    return corrupted


def occluded(pixels: Array, level: float, rng: np.random.Generator, fill: Array) -> Array:
    """Cover a box of ``pixels`` ``[C, H, W]`` with the colour ``fill`` ``[C]``.

    The box covers a share ``level`` of the area, at a place drawn from ``rng``; at level 1, all of it.
    """
    height, width = pixels.shape[1:]
    place = rng.random(2)
    high, wide = round(height * level**0.5), round(width * level**0.5)
    top, left = round(place[0] * (height - high)), round(place[1] * (width - wide))
    corrupted = pixels.copy()
    corrupted[:, top : top + high, left : left + wide] = fill[:, None, None]
    return corrupted


def blurred(pixels: Array, level: float) -> Array:
    """Blur ``pixels`` ``[C, H, W]`` uint8 with a Gaussian of deviation ``level`` times an eighth of the shorter side."""
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
    corrupted: Array = soft.round().clip(0, 255).astype(np.uint8)
    return corrupted


def shrunk(pixels: Array, level: float) -> Array:
    """Reduce ``pixels`` ``[C, H, W]`` uint8 to ``1 - level / 2`` of their height and width and stretch them back.

    At level 1 it is the picture read from a file of half the size. Places stay where they are, and so do the targets on it.
    """
    high, wide = (_smaller(n, max(1, round(n * (1 - level / 2)))) for n in pixels.shape[1:])
    corrupted: Array = (high @ pixels.astype(np.float64) @ wide.T).round().clip(0, 255).astype(np.uint8)
    return corrupted


def _smaller(size: int, fewer: int) -> Array:
    """The matrix ``[size, size]`` that resamples an axis to ``fewer`` places and back, both with a triangle filter."""

    def resampled(a: int, b: int) -> Array:
        reach = max(1.0, a / b)
        away = (np.arange(b)[:, None] + 0.5) * (a / b) - (np.arange(a) + 0.5)
        weight = np.clip(1 - np.abs(away) / reach, 0, None)
        share: Array = weight / weight.sum(axis=1, keepdims=True)
        return share

    both: Array = resampled(fewer, size) @ resampled(size, fewer)
    return both


def noisy_sound(samples: Array, level: float, rng: np.random.Generator) -> Array:
    """Add white noise from ``rng`` to ``samples`` ``[T]`` int16: SNR falls from 30 dB to -10 dB as ``level`` goes from
    0 to 1.
    """
    noise = rng.standard_normal(len(samples))
    power = max(float(np.mean(np.square(samples, dtype=np.float64))), 1.0) if len(samples) else 1.0
    decibels = LOUD + (QUIET - LOUD) * level
    corrupted: Array = (
        (samples + noise * np.sqrt(power / 10 ** (decibels / 10))).round().clip(-32768, 32767).astype(np.int16)
    )
    return corrupted


def gap(steps: int, level: float, rng: np.random.Generator) -> Array:
    """Return a mask ``[steps]`` of one gap covering a share ``level`` of the ``steps``, placed by ``rng``; it may wrap
    around.
    """
    start = rng.random()
    inside: Array = np.mod((np.arange(steps) + 0.5) / max(steps, 1) - start, 1.0) < level
    return inside


def drift(steps: int, channels: int, level: float, rng: np.random.Generator) -> Array:
    """Return a linear drift ``[steps, channels]``, in standard deviations.

    ``steps`` is the length. Each of the ``channels`` drifts from 0 to three times ``level``, up or down by chance
    (``rng``).
    """
    sign = rng.choice([-1.0, 1.0], size=channels)
    line: Array = 3 * level * np.linspace(0, 1, steps)[:, None] * sign
    return line
