"""The time of each word of a transcript, or its place along a line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from sensorium.core.batch import Batch
from sensorium.heads.joint_decoding import Emissions
from sensorium.language.tokeniser import UNSPACED
from sensorium.nn.ctc import BLANK, alignment, packed
from sensorium.signal.geometry import inverse, spans

_UNSPACED = re.compile(f"[{UNSPACED}]")


def words_of(ids: Sequence[int], pieces: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Return the words that ``ids`` spell, and the places of the units of each.

    Args:
        ids: Units, padded with 0.
        pieces: What each id spells, with a blank before what begins a word. Characters of scripts without blanks are words.
    """
    words: list[tuple[str, list[int]]] = []
    blank = True
    for place, i in enumerate(ids):
        if i == BLANK:
            break
        piece = pieces[i]
        text = piece.strip()
        begins = blank or piece[:1] == " " or _UNSPACED.match(text) or (words and _UNSPACED.match(words[-1][0]))
        blank = not text
        if not text:
            continue
        if begins:
            words.append((text, [place]))
        else:
            words[-1] = (words[-1][0] + text, [*words[-1][1], place])
    return words


def timed_words(
    output: Emissions, ids: Tensor, streams: Sequence[str], pieces: Sequence[str], batch: Batch
) -> list[list[dict[str, Any]]]:
    """Return the words of each row with ``start``, ``end`` and ``confidence``, on the first stream that the row has.

    The units lie where the most probable alignment has them; a word reaches halfway to its neighbours. Times are seconds of
    the recording (steps of a series, pixels along a line); without a frame they are shares of the whole.

    Args:
        output: The emissions of the streams.
        ids: The transcript of each row ``[B, L]``, padded with 0.
        streams: Names of the streams in ``output``.
        pieces: What each id spells.
        batch: The prepared inputs, whose frames map seconds to their steps.
    """
    rows: list[list[dict[str, Any]]] = [[] for _ in range(len(ids))]
    for i in reversed(range(len(streams))):  # the first stream of the row has the last word
        present = output.present(i).nonzero()[:, 0]
        if not len(present):
            continue
        logs, steps = packed(output.logs(i)[present], output.real[i][present])
        mask = torch.arange(logs.shape[1], device=logs.device) < steps[:, None]
        own = ids[present]
        first, last = alignment(logs, mask, own)
        chance = logs.exp().gather(1, first.clamp(min=0)[..., None].expand(-1, -1, logs.shape[2]))
        chance = chance.gather(2, own[..., None])[..., 0]  # [b, L]
        field = batch.inputs.get(streams[i])
        length, count = output.real[i].shape[1], steps.tolist()
        stride, back = 1.0, None
        if field is not None and field.data.dim() > 2:
            stride = float(max(round(field.data.shape[2] / max(length, 1)), 1))
            back = None if field.frame is None or field.frame.shape[1] != 1 else inverse(field.frame.float().cpu())
        for j, row in enumerate(present.tolist()):
            words = words_of(own[j].tolist(), pieces)
            if not words or int(first[j, 0]) < 0:
                continue
            bounds = _bounds([(int(first[j, part[0]]), int(last[j, part[-1]]) + 1) for _, part in words], count[j])
            if back is None:
                ends = [(a / max(count[j], 1), b / max(count[j], 1)) for a, b in bounds]
            else:
                places = torch.tensor([bounds], dtype=torch.float32) * stride
                ends = [(max(a, 0.0), max(b, 0.0)) for a, b in spans(back[row : row + 1], places)[0].tolist()]
            rows[row] = [
                {
                    "word": word,
                    "start": round(start, 4),
                    "end": round(end, 4),
                    "confidence": round(float(chance[j, part].mean()), 6),
                }
                for (word, part), (start, end) in zip(words, ends, strict=True)
            ]
    return rows


def _bounds(runs: Sequence[tuple[int, int]], steps: int) -> list[tuple[float, float]]:
    """Bounds of words halfway between their ``runs`` of steps; the outer ones reach half a mean word further."""
    reach = steps / (2 * len(runs))
    inner = [(a[1] + b[0]) / 2 for a, b in pairwise(runs)]
    edges = [max(runs[0][0] - reach, 0.0), *inner, min(runs[-1][1] + reach, float(steps))]
    return list(pairwise(edges))
