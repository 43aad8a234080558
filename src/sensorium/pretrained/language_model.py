"""Causal language models of transformers, from a local folder: read without running code, and identified by a digest."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sensorium.core.errors import ConfigError, MissingExtraError, SensoriumError
from sensorium.core.safe_files import open_regular
from sensorium.nn.lora import merge
from sensorium.pretrained.architectures import check_size, quiet
from sensorium.pretrained.build_budget import build_budget
from sensorium.pretrained.chat_tokeniser import ChatTokeniser
from sensorium.pretrained.checkpoint import Checkpoint
from sensorium.pretrained.safetensors_header import check_finite

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
_DESCRIBING = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
# A configuration must not fetch or run anything: entries that can name kernels or code are dropped.
_LEFT_OUT = ("architectures", "auto_map", "attn_implementation", "experts_implementation", "dtype", "torch_dtype",
             "transformers_version")  # fmt: skip
_SAMPLE = 4096
_BYTES = 1 << 20


@dataclass
class LanguageModel:
    """A causal language model in evaluation mode, none of whose weights is trained.

    Args:
        network: The ``...ForCausalLM`` of transformers.
        words: Its tokeniser and chat template.
        digest: SHA-256 of its files.
        name: The last part of its folder's name.
        folder: Where it was read; None: it stands in.
    """

    network: nn.Module
    words: ChatTokeniser
    digest: str
    name: str
    folder: Path | None = None

    @property
    def embedding(self) -> nn.Module:
        """The layer that turns token ids into what the network receives."""
        layer: nn.Module = self.network.get_input_embeddings()  # type: ignore[operator]
        return layer

    @property
    def rows(self) -> int:
        """The number of ids that have an embedding."""
        return int(self.embedding.get_parameter("weight").shape[0])

    @property
    def width(self) -> int:
        """The width of an embedding."""
        return int(self.received(torch.zeros(1, dtype=torch.long)).shape[-1])

    @property
    def longest(self) -> int | None:
        """The number of positions it knows; None where it names none."""
        positions = getattr(self.network.config, "max_position_embeddings", None)
        return positions if isinstance(positions, int) and positions > 0 else None

    def received(self, ids: Tensor) -> Tensor:
        """Return the embeddings of ``ids`` as the network receives them (Gemma multiplies those of its table)."""
        vectors: Tensor = self.embedding(ids)
        return vectors

    @torch.no_grad()
    def embedding_rms(self) -> float:
        """Return the root mean square of word embeddings as the network receives them."""
        ids = torch.linspace(0, self.rows - 1, min(self.rows, _SAMPLE)).round().long()
        return float(self.received(ids).float().square().mean().sqrt())


def save_merged(model: LanguageModel, folder: Path) -> str:
    """Write ``model`` with its low-rank updates added to ``folder``, as transformers reads it; return its digest."""
    if model.folder is None:
        raise ConfigError("the model was trained on a stand-in, which has no folder", fix="train with --lm FOLDER")
    network: Any = deepcopy(model.network)
    merge(network)
    with quiet():
        network.save_pretrained(folder)
    for name in (*_DESCRIBING, "special_tokens_map.json"):
        if name != "config.json" and (model.folder / name).is_file():
            shutil.copyfile(model.folder / name, folder / name)
    return digest_of(Checkpoint(str(folder)))


def digest_of(checkpoint: Checkpoint) -> str:
    """Return the SHA-256 of the files that determine the answers of ``checkpoint``: weights, configuration, tokeniser."""
    described = [path for name in _DESCRIBING if (path := checkpoint.file(name)) is not None]
    total = hashlib.sha256()
    for path in [*described, *checkpoint.parts()]:
        real = path.resolve()
        state = real.stat()
        total.update(f"{path.name} {_digest(str(real), state.st_size, state.st_mtime_ns)}\n".encode())
    return total.hexdigest()


@lru_cache(maxsize=64)
def _digest(path: str, size: int, changed: int) -> str:
    digest = hashlib.sha256(f"{size} ".encode())
    with os.fdopen(open_regular(Path(path)), "rb") as file:
        while part := file.read(_BYTES):
            digest.update(part)
    return digest.hexdigest()


def load(folder: Path, dtype: Dtype = "auto") -> LanguageModel:
    """Load the language model in ``folder``; raise ``ConfigError`` in words where it is none.

    Only JSON, a template and safetensors are read; code in the folder is not run.

    Args:
        folder: As ``save_pretrained`` of transformers writes it.
        dtype: Of its weights; ``auto``: that of the file.
    """
    checkpoint = check_folder(folder)
    config = checkpoint.config
    assert checkpoint.held  # validates the file headers
    words = ChatTokeniser.of(checkpoint)
    network = _network(checkpoint, config, dtype)
    made = LanguageModel(network, words, digest_of(checkpoint), folder.name, folder)
    if words.size > made.rows:
        raise ConfigError(
            f"language model {folder.name!r}: its tokeniser has {words.size} words, its network {made.rows}",
            fix="give the folder of one model, whole",
        )
    return made


def check_folder(folder: Path) -> Checkpoint:
    """Return the checkpoint in ``folder`` after checking that it is a language model's; its weights are not read.

    Raises:
        ConfigError: It is no language model, or one that cannot be used.
    """
    if not folder.is_dir():
        raise ConfigError(f"language model: there is no folder {str(folder)!r}", fix="--lm FOLDER")
    checkpoint = Checkpoint(str(folder))
    if checkpoint.file("adapter_config.json") is not None:
        raise ConfigError(
            f"language model {folder.name!r} is an adapter for another one",
            fix="merge it first: peft's merge_and_unload() and save_pretrained(folder)",
        )
    config = checkpoint.config
    if config.get("quantization_config") is not None:
        raise ConfigError(f"language model {folder.name!r} is quantised", fix="give the unquantised one")
    checkpoint.check_weights()
    return checkpoint


def _network(checkpoint: Checkpoint, config: dict[str, Any], dtype: Dtype) -> nn.Module:
    try:
        from transformers import AutoConfig, AutoModelForCausalLM
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    except ImportError:
        raise MissingExtraError("a language model", "hf") from None
    kind = str(config["model_type"])
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ConfigError(
            f"language model {checkpoint.name!r}: transformers has no causal language model of type {kind!r}",
            fix="code in a folder is not run: only models that transformers itself has are read",
        )
    kept = {k: v for k, v in config.items() if k not in (*_LEFT_OUT, "model_type") and not k.startswith("_")}
    for name, value in kept.items():
        check_size(name, value)
    # No larger than its weights, whatever its config.json says; a tied table of words counts again as the output layer.
    elements, tensors = checkpoint.held
    with quiet(), torch.random.fork_rng(devices=[]), build_budget(elements + _tied(config, elements), tensors):
        try:
            plan = AutoConfig.for_model(kind, **kept)
            plan.dtype = config.get("dtype", config.get("torch_dtype"))
            network, info = AutoModelForCausalLM.from_pretrained(
                str(Path(checkpoint.name).expanduser()),
                config=plan,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                dtype=dtype if dtype == "auto" else getattr(torch, dtype),
            )
        except SensoriumError:
            raise
        except Exception as error:  # untrusted files
            problem = " ".join(str(error).split())[:300] or type(error).__name__
            raise ConfigError(f"language model {checkpoint.name!r} cannot be loaded: {problem}") from None
    lacking = sorted(info["missing_keys"])
    if lacking:
        raise ConfigError(
            f"language model {checkpoint.name!r} lacks {len(lacking)} of its weights: {', '.join(lacking[:3])}"
        )
    try:
        check_finite(network.state_dict())
    except ValueError as error:
        raise ConfigError(f"language model {checkpoint.name!r} cannot be used: {error}") from None
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    made: nn.Module = network.eval()
    return made


def _tied(config: dict[str, Any], most: int) -> int:
    """The numbers of an output layer that is tied to the table of words, and so not in the file; at most ``most``."""
    sizes = [config.get(name) for name in ("vocab_size", "hidden_size", "n_embd")]
    vocabulary, *widths = [size if isinstance(size, int) and size > 0 else 0 for size in sizes]
    return min(most, vocabulary * max(widths))


def stand_in() -> LanguageModel:
    """Return a small Llama over bytes with random weights, the same every time, which stands where no folder is named."""
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError:
        raise MissingExtraError("a language model", "hf") from None
    words = ChatTokeniser(_bytes(), {"eos_token": "</s>", "bos_token": "<s>"}, None, [1], "stand-in")
    config = LlamaConfig(
        vocab_size=words.size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(20)
        network = LlamaForCausalLM(config)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return LanguageModel(network.eval(), words, digest.hexdigest(), "stand-in")


def _bytes() -> dict[str, Any]:
    """A tokeniser whose words are bytes."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {"<s>": 0, "</s>": 1}
    for letter in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[letter] = len(vocabulary)
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    file: dict[str, Any] = json.loads(made.to_str())
    return file
