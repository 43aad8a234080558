"""Options with which components are checked, where their types do not imply them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def brief(family: str, kind: str) -> dict[str, Any]:
    """Options with which component ``kind`` of ``family`` is checked in seconds, where its defaults would take minutes."""
    return {name: value() if callable(value) else value for name, value in _BRIEF.get((family, kind), {}).items()}


def values(family: str, kind: str, option: str) -> Sequence[Any]:
    """Values of ``option`` of component ``kind`` in ``family`` that its type does not imply: an existing folder, the
    name of a stream."""
    made = _VALUES.get((family, kind, option))
    return () if made is None else made()


def _checkpoint(kind: str) -> Callable[[], list[Any]]:
    def made() -> list[Any]:
        from sensorium.testing.checkpoints import tiny

        return [str(tiny(kind))]

    return made


_VALUES: dict[tuple[str, str, str], Callable[[], list[Any]]] = {
    ("tasks", "forecasting", "known"): lambda: [["one"]],
    ("tasks", "retrieval", "between"): lambda: [["two", "one"]],
    ("tasks", "transcription", "on"): lambda: [["two"]],
    ("encoders", "huggingface", "checkpoint"): _checkpoint("bert"),
    ("encoders", "huggingface", "config"): lambda: [
        {"model_type": "distilbert", "dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8, "vocab_size": 60}
    ],
    ("encoders", "tiles", "encoder"): lambda: [{"kind": "convnet", "depth": 2, "stride": 1}],
    ("encoders", "tiles", "overlap"): lambda: [0],
    ("encoders", "tiles", "side"): lambda: [8],
    ("objectives", "simclr", "streams"): lambda: [["series"]],
    ("objectives", "distillation", "teachers"): lambda: [["series"]],
    ("objectives", "masked", "streams"): lambda: [["picture"]],
    ("tasks", "survival", "happened"): lambda: ["no"],
    ("tasks", "segmentation", "focus"): lambda: ["1"],
    ("tasks", "keypoints", "focus"): lambda: ["1"],
    ("tasks", "keypoints", "within"): lambda: [30.0],
    ("tasks", "keypoints", "flip_pairs"): lambda: [{"0": "2"}],
    ("modalities", "keypoints", "names"): lambda: [["2", "0", "1"]],
    ("modalities", "image", "limit"): lambda: [16],
    ("tasks", "detection", "focus"): lambda: ["dog"],
    ("modalities", "boxes", "names"): lambda: [["cat", "dog"]],
    ("tasks", "conversation", "lm"): lambda: [None],
    ("tasks", "conversation", "choices"): lambda: [["yes", "no"]],
    ("tasks", "conversation", "length"): lambda: list(range(40, 24, -2)),
    ("tasks", "conversation", "targets"): lambda: [["q_proj"]],
    ("modalities", "mask", "classes"): lambda: [{"thing": 1, "part": 2, "rest": 0}],
    ("modalities", "mask", "files"): lambda: [["thing", "part"]],
    ("modalities", "mask", "void"): lambda: ["none", "2"],
    ("modalities", "ordinal", "order"): lambda: ["5, 4, 3, 2, 1"],
    ("modalities", "text", "checkpoint"): _checkpoint("bert"),
    ("fusions", "lxmert", "words"): lambda: ["photo"],
    ("fusions", "lxmert", "checkpoint"): _checkpoint("lxmert"),
    ("fusions", "lxmert", "config"): lambda: [
        {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "x_layers": 1}
    ],
    ("surgery", "freeze", "streams"): lambda: [["series"]],
    ("surgery", "lora", "streams"): lambda: [["series"]],
    ("surgery", "lora", "targets"): lambda: [["query", "stages", "layers.0"]],
}
_BRIEF: dict[tuple[str, str], dict[str, Any]] = {
    ("experts", "boosting"): {"iterations": 40},
    ("encoders", "tiles"): {"side": 4, "overlap": 2, "encoder": {"kind": "convnet", "depth": 1, "stride": 1}},
    ("tasks", "edges"): {"hidden": 4, "thresholds": 2},
    ("tasks", "answering"): {"beam": 2, "depth": 1, "longest": 6},
    ("tasks", "captioning"): {"beam": 2, "depth": 1, "longest": 6},
    ("tasks", "translation"): {"beam": 2, "depth": 1, "longest": 6},
    ("tasks", "transcription"): {"hidden": 8, "depth": 1, "beam": 3, "ngram": 2},
    ("tasks", "conversation"): {
        "longest": 4,
        "tokens": 2,
        "lm": lambda: _checkpoint("llama")()[0],
        "stage": "instruct",
        "projector": "resampler",
        "decode": "sample",
        "beam": 2,
    },
}
