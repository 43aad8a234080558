"""Tiny checkpoints with random weights, written as ``save_pretrained`` of transformers writes real ones."""

from __future__ import annotations

import atexit
import json
import shutil
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

CHATML = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
"""A chat template like many."""
SPEAKING = ("llama", "qwen2", "qwen3", "mistral", "gemma3_text", "gpt2", "phi")
"""Causal language models, written with their head, a tokeniser and a chat template."""
_TEXT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
_WORDS = {"vocab_size": 60, "max_position_embeddings": 24}
_PICTURE = {**_TEXT, "image_size": 16, "patch_size": 8}
_SOUND = {**_TEXT, "conv_dim": [16, 16], "conv_kernel": [10, 3], "conv_stride": [5, 2], "num_conv_pos_embeddings": 8,
          "num_conv_pos_embedding_groups": 2, "num_feat_extract_layers": 2, "vocab_size": 32}  # fmt: skip
_ENDS = {"vocab_size": 40, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
_SAYS = {**_TEXT, **_ENDS, "num_key_value_heads": 2, "max_position_embeddings": 256}

TINY: dict[str, dict[str, Any]] = {
    "vit": _PICTURE,
    "deit": _PICTURE,
    "dinov2": {k: v for k, v in _PICTURE.items() if k != "intermediate_size"},
    "clip_vision_model": _PICTURE,
    "siglip_vision_model": _PICTURE,
    "swin": {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
    "convnext": {"image_size": 32, "hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1]},
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
    "segformer": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2],
                  "decoder_hidden_size": 16, "num_labels": 5},
    "yolos": {**_TEXT, "image_size": [32, 32], "patch_size": 8, "num_detection_tokens": 6, "num_labels": 4},
    "bert": {**_TEXT, **_WORDS},
    "roberta": {**_TEXT, **_WORDS, "pad_token_id": 1},
    "xlm-roberta": {**_TEXT, **_WORDS, "pad_token_id": 1},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, **_WORDS},
    "modernbert": {**_TEXT, **_WORDS, "pad_token_id": 3, "cls_token_id": 1,
                   "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2, "global_attn_every_n_layers": 2,
                   "local_attention": 8},
    "wav2vec2": _SOUND,
    "hubert": _SOUND,
    "whisper": {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32,
                "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "vocab_size": 40,
                "max_source_positions": 50, "max_target_positions": 8, "num_mel_bins": 80, "pad_token_id": 0,
                "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
    "audio-spectrogram-transformer": {**_TEXT, "max_length": 64, "num_mel_bins": 32, "patch_size": 16},
    "lxmert": {**_TEXT, "vocab_size": 60, "l_layers": 1, "x_layers": 2, "r_layers": 1, "visual_feat_dim": 8,
               "num_attention_heads": 4},
    "llama": _SAYS,
    "qwen2": _SAYS,
    "qwen3": {**_SAYS, "head_dim": 8},
    "mistral": {**_SAYS, "sliding_window": 8},
    "gemma3_text": {**_SAYS, "head_dim": 8, "sliding_window": 8,
                    "layer_types": ["sliding_attention", "full_attention"]},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 256, **_ENDS},
    "phi": _SAYS,
}  # fmt: skip
"""A small architecture of each ``model_type``."""


def write(folder: Path, kind: str, **changes: Any) -> Path:
    """A checkpoint of ``kind`` in ``folder``; ``changes`` go to its configuration."""
    import torch
    from transformers import (
        AutoConfig,
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForObjectDetection,
        AutoModelForSemanticSegmentation,
    )
    from transformers.utils import logging

    logging.disable_progress_bar()
    config = AutoConfig.for_model(kind, **{**TINY[kind], **changes})
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(7)
        heads = dict.fromkeys(SPEAKING, AutoModelForCausalLM)
        heads |= {"segformer": AutoModelForSemanticSegmentation, "yolos": AutoModelForObjectDetection}
        model = heads.get(kind, AutoModel).from_config(config)
        with torch.no_grad():  # away from the zeros and ones of a fresh network, which would hide what is not loaded
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        model.save_pretrained(folder)
    if kind in SPEAKING:
        write_word_tokeniser(folder, [f"w{i}" for i in range(int(config.vocab_size) - 4)])
    if TINY[kind].get("vocab_size") == 60:
        write_tokeniser(folder, pad=int(getattr(config, "pad_token_id", 0) or 0))
    return folder


def write_word_tokeniser(folder: Path, words: Sequence[str], template: str | None = CHATML) -> None:
    """Write a tokeniser of whole ``words`` into ``folder``, with the chat ``template`` of a language model; the token that
    pads is the one that ends."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    special = ["<|start|>", "<|end|>"]
    vocabulary = {word: i for i, word in enumerate([*special, "[unk]", "\n", *words])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[unk]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n|[a-z0-9]+|[^\sa-z0-9]"), "removed", invert=True)
    made.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    made.save(str(folder / "tokenizer.json"))
    settings = {"bos_token": None, "eos_token": "<|end|>", "pad_token": "<|end|>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def write_tokeniser(folder: Path, pad: int = 0) -> None:
    """Write a word-level tokeniser into ``folder``, with ``pad`` as the id of padding; texts begin with ``[CLS]`` and
    end with ``[SEP]``."""
    special = ["[CLS]", "[SEP]", "[UNK]"]
    special.insert(pad, "[PAD]")
    words = [
        "red",
        "dress",
        "blue",
        "shoes",
        "lovely",
        "poor",
        "fit",
        "warm",
        "and",
        "soft",
        "the",
        "a",
        "cat",
        "dog",
        "sat",
        "on",
        "mat",
        "good",
        "bad",
        "very",
    ]
    ids = {word: i for i, word in enumerate([*special, *words])}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    marks = [{"id": i, "content": mark, **flags, "special": True} for i, mark in enumerate(special)]
    pieces = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
              {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]  # fmt: skip
    tokens = {mark: {"id": mark, "ids": [ids[mark]], "tokens": [mark]} for mark in ("[CLS]", "[SEP]")}
    file = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": marks,
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": pieces, "pair": pieces, "special_tokens": tokens},
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": ids, "unk_token": "[UNK]"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(file), encoding="utf-8")
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    settings = {**names, "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


@cache
def tiny(kind: str) -> Path:
    """A tiny checkpoint of the architecture ``kind``, written once for each process to a temporary folder."""
    folder = Path(mkdtemp(prefix=f"sensorium-{kind}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return write(folder, kind)
