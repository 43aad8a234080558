"""Training of a language model with media: in full, with gradient checkpointing, on every kind of stream."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sensorium as sm
from sensorium.core.batch import Encoded, Field
from sensorium.core.errors import ArtifactError, ConfigError
from sensorium.core.forward import Forward
from sensorium.core.goal import Goal
from sensorium.core.layout import Row
from sensorium.core.registry import build
from sensorium.heads.question_prior import QuestionPrior
from sensorium.nn.lora import transposed
from sensorium.pretrained.borrowed_language_model import updated
from sensorium.pretrained.chat_rows import texts_of
from sensorium.pretrained.language_model import load, save_merged
from sensorium.pretrained.speech import ChatInputs
from sensorium.testing import tiny_language_model
from sensorium.testing.checkpoints import SPEAKING, tiny, write

DIM = 8
SETTINGS = ["model.size=tiny", "objectives=[{kind: supervised, subsets: 0}]", "training.epochs=1", "training.refit=none"]
QUESTIONS, COUNTS, ANSWERS = ["w1 w2 w3", "w4", "w9 w8 w7 w6"], [3, 0, 5], ["w5", "w6 w7 w8", "w9 w1"]


def column(cells: Sequence[str | None]) -> Field:
    reader = build("modalities", "messages")
    return reader.prepare(reader.collate([None if cell is None else reader.encode(cell) for cell in cells]))


def made(kind: str, **options: Any) -> Any:
    """The task on a tiny language model of ``kind``, in evaluation mode, with weights that are not zero."""
    reader = build("modalities", "messages")
    goal = Goal("answer", {"answer": reader}, {"question": reader}, {"photo": Row((0,))})
    torch.manual_seed(0)
    task = build("tasks", {"kind": "conversation", "lm": str(tiny(kind)), "longest": 4, **options}, goal, DIM)
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return task.eval()


def inputs_of(task: Any, questions: Sequence[str], counts: Sequence[int]) -> Any:
    """The output for ``questions``, each beside as many tokens of ``photo`` as in ``counts``; 0: it is absent."""
    real = torch.arange(max([*counts, 1])) < torch.tensor(counts)[:, None]
    tokens = torch.randn(*real.shape, DIM, generator=torch.Generator().manual_seed(0)) * real[..., None]
    part = Encoded(tokens, real, tokens.mean(dim=1), real.any(dim=1))
    return task(part, {"photo": part}, {"question": column(questions)})


def test_gradient_checkpointing_changes_memory_and_nothing_else() -> None:
    results = []
    for recomputing in (False, True):
        task = made("llama", stage="instruct").train()
        assert not recomputing or task.recompute()
        task.train()
        runs = []
        for layer in task.lm.network.model.layers:
            layer.mlp.register_forward_pre_hook(lambda *_, runs=runs: runs.append(1))
        output = inputs_of(task, QUESTIONS, COUNTS)
        task.loss(output, column(ANSWERS)).sum().backward()
        results.append([p.grad.clone() for p in task.parameters() if p.grad is not None])
        assert len(runs) == (4 if recomputing else 2), "each of the two layers runs again in the backward pass"
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    task.eval()
    with torch.no_grad():
        assert task.scored_answers(inputs_of(task, QUESTIONS, COUNTS)), "generation keeps its cache"


@pytest.mark.parametrize("kind", SPEAKING)
def test_low_rank_updates_merge_into_every_architecture(kind: str, tmp_path: Path) -> None:
    """GPT-2 has layers of its own, whose weights are transposed."""
    task = made(kind, stage="instruct")
    assert any(transposed(layer) for layer in task.lm.network.modules()) == (kind == "gpt2")
    ids = torch.arange(2, 12)[None]
    with torch.no_grad():
        before = task.lm.network(input_ids=ids).logits
        plain = load(tiny(kind)).network(input_ids=ids).logits
        save_merged(task.lm, tmp_path)
        after = load(tmp_path).network(input_ids=ids).logits
    assert not torch.allclose(before, plain, atol=1e-3)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


def test_targets_of_gpt2_can_be_named() -> None:
    assert len(updated(load(tiny("gpt2")), 2, ["c_attn"])) == 2
    with pytest.raises(ConfigError, match="no such linear layer") as refused:
        updated(load(tiny("gpt2")), 2, ["nothing"])
    assert "c_attn" in (refused.value.fix or "")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of questions about pictures and a language model with random weights, ``tiny``."""
    folder = tmp_path_factory.mktemp("world")
    tiny_language_model.write(folder / "tiny", steps=0)
    tiny_language_model.table(folder / "rows", 24, sound=False)
    return folder


def fitted(world: Path, **options: Any) -> Any:
    keys = {"out", "init", "overrides", "resume"}
    settings = {"overrides": SETTINGS, **{key: options.pop(key) for key in keys & set(options)}}
    own = {"prompt": "question", "lm": str(world / "tiny"), **options}
    return sm.fit(world / "rows" / "table.csv", target="answer", task="conversation", options=own, ignore=["sound"],
                  quiet=True, **settings)  # fmt: skip


@pytest.fixture(scope="module")
def full(world: Path) -> Path:
    """A run of the stage ``instruct`` that trains all weights of the language model, recomputing activations."""
    fitted(world, stage="instruct", tuning="full", out=world / "full",
           overrides=[*SETTINGS, "training.checkpointing=true", "training.lr_scale={answer: 0.5}"])  # fmt: skip
    return world / "full"


def test_full_tuning_saves_the_weights_and_scores_forgetting(full: Path, world: Path) -> None:
    from safetensors.torch import load_file

    saved = load_file(full / "model.safetensors")
    mine = [tensor for name, tensor in saved.items() if ".weights." in name]
    before = dict(load(world / "tiny").network.named_parameters())
    assert [tuple(t.shape) for t in mine] and len(mine) == len(before), "tied weights once"  # noqa: PT018
    model = sm.load(full, lm=world / "tiny")
    task: Any = model.model.tasks["answer"]
    after = dict(task.lm.network.named_parameters())
    assert all(not torch.equal(after[name], before[name]) for name in after)
    scores = model.evaluate(world / "rows" / "table.csv").targets["answer"].metrics
    text = task.text_surprise(ChatInputs(column(["what colour is it?"]).data, (), ()))
    ids = torch.tensor([task.lm.words.typed("what colour is it?")])
    with torch.no_grad():
        plain = load(world / "tiny").network(input_ids=ids, labels=ids).loss * (ids.shape[1] - 1)
    assert float(text[1][0]) == pytest.approx(float(plain), rel=1e-4)
    assert scores["text_perplexity"] != scores["text_perplexity_before"]
    assert "text perplexity before" in (full / "report.html").read_text(encoding="utf-8")


def test_a_fully_tuned_model_is_merged_and_trained_further(full: Path, world: Path, cli: Any, tmp_path: Path) -> None:
    code, _, err = cli("merge", full, "--out", tmp_path / "merged", "--lm", world / "tiny")
    assert code == 0, err
    table = world / "rows" / "table.csv"
    first = sm.load(full, lm=world / "tiny").predict(table)
    for one, other in zip(first, sm.load(tmp_path / "merged").predict(table), strict=True):
        assert one.value == other.value
        assert one.targets["answer"]["score"] == pytest.approx(other.targets["answer"]["score"], abs=1e-5)
    with pytest.raises(ConfigError, match="would lose the weights of the language model"):
        fitted(world, stage="align", init=full)
    with pytest.raises(ConfigError, match="tuning is 'lora', and the base was trained with 'full'"):
        fitted(world, stage="instruct", tuning="lora", init=full)


def test_half_precision_weights_are_not_trained_in_full() -> None:
    with pytest.raises(ConfigError, match="cannot be trained in full"):
        made("llama", stage="instruct", tuning="full", dtype="bfloat16")


def test_checkpointing_is_refused_where_nothing_can_be_recomputed() -> None:
    with pytest.raises(ConfigError, match="no part of the model can recompute"):
        sm.fit([{"x": (i * 7) % 5 + 0.5, "y": "ab"[i % 2]} for i in range(40)], target="y", quiet=True,
               overrides=["training.checkpointing=true", "model.experts=[]", "training.epochs=1"])  # fmt: skip


def test_the_question_alone_answers_by_its_training_rows(full: Path, world: Path) -> None:
    prior = QuestionPrior()
    assert prior.answer("anything") == ""
    prior.learn([("What colour is it?", "red"), ("what colour is it?", "red"), ("what colour is the sky?", "blue"),
                 ("what colour is the sky?", "blue"), ("who are you?", "nobody")])  # fmt: skip
    assert prior.answer("what COLOUR is  it?") == "red"
    assert prior.answer("what colour is the sky?") == "blue"
    assert prior.answer("who is there?") == "nobody", "by its first word"
    assert prior.answer("hello") in ("red", "blue")
    task: Any = sm.load(full, lm=world / "tiny").model.tasks["answer"]
    asked = Counter(
        (row["question"], row["answer"]) for row in sm.Table.read(world / "rows" / "table.csv").rows() if row["answer"]
    )
    exact = [key for key in task.prior.answers if key.startswith("=")]
    assert exact
    assert all((key[1:], task.prior.answers[key]) in asked for key in exact)


def test_conversations_that_are_cut_are_counted() -> None:
    task = made("llama", length=30)
    long, short = " ".join(["w1"] * 40), "w1 w2"
    note = task.fit_prompts([({"question": column([long, short])}, column(["w3", "w4"]))])
    assert note == "1 of 2 conversations have more than 30 tokens, without media: texts are cut"
    assert made("llama").fit_prompts([({"question": column([long, short])}, column(["w3", "w4"]))]) == ""
    assert task.prior.answer(short) == "w4"


def test_conversations_that_are_cut_for_their_media_are_counted_while_learning() -> None:
    task = made("llama", length=30)
    task.train()
    long, middling, short = (" ".join(["w1"] * count) for count in (40, 18, 2))
    (data,) = texts_of(column([middling]).data)
    room = 30 - task.speech.rows.tokens(data) - len(task._ended("w3")) - 1  # a line break after the medium
    assert 0 < room < 8

    def learn(questions: Sequence[str], counts: Sequence[int], answers: Sequence[str | None]) -> str:
        task.loss(inputs_of(task, questions, counts), column(answers))
        return str(task.training_note())

    assert learn([long, middling, short], [8, room, 8], ["w3"] * 3) == "", "too long without media, or short enough"
    with torch.no_grad():
        assert learn([middling], [8], ["w3"]) == "", "only what is learnt counts"
    assert learn([middling, middling], [8, 8], ["w3", None]).startswith("texts of 25.0% of the conversations")


def test_fit_tells_after_an_epoch_which_texts_media_cut(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = {"prompt": "question", "lm": str(world / "tiny"), "projector": "resampler", "tokens": 16, "system": "w1 " * 20}
    told = []
    for length in (50, 500):
        sm.fit(world / "rows" / "table.csv", target="answer", task="conversation", options={**own, "length": length},
               ignore=["sound"], overrides=[*SETTINGS[:-2], "training.epochs=2", SETTINGS[-1]])  # fmt: skip
        told.append(capsys.readouterr().err.count("of the conversations were cut since media take up a part of the"))
    assert told == [1, 0]


def test_every_kind_of_stream_is_laid_into_the_conversation(tmp_path: Path) -> None:
    """Two pictures with encoders of their own, several in a cell, a video, a sound, a series, points, cells of a table."""
    soundfile = pytest.importorskip("soundfile")
    draw = np.random.default_rng(0)
    rows = []
    for i in range(6):
        for name in ("a", "b", "c", "d"):
            Image.fromarray(draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(tmp_path / f"{name}{i}.png")
        soundfile.write(tmp_path / f"{i}.wav", draw.normal(0, 0.1, 1600).astype(np.float32), 8000)
        row = {
            "photo": str(tmp_path / f"a{i}.png"), "photo_2": str(tmp_path / f"b{i}.png"),
            "album": json.dumps([str(tmp_path / f"c{i}.png"), str(tmp_path / f"d{i}.png")]),
            "film": draw.integers(0, 255, (4, 16, 16, 3), dtype=np.uint8), "sound": str(tmp_path / f"{i}.wav"),
            "motion": draw.normal(size=(12, 2)).tolist(), "cloud": draw.normal(size=(9, 3)).tolist(),
            "age": float(i), "kind": "xy"[i % 2],
            "question": "<photo_2> <film> what is it?",
            "answer": ["cat", "dog"][i % 2],
        }  # fmt: skip
        rows.append(row if i else {"question": "hello", "answer": "cat"})
    kinds = {"photo": "image", "photo_2": "image", "album": "images", "film": "video", "sound": "audio",
             "motion": "series", "cloud": "points", "age": "number", "kind": "category"}  # fmt: skip
    overrides = [*SETTINGS, "model.encoders.photo_2=patch", "model.experts=[]"]
    model = sm.fit(rows, target="answer", task="conversation", options={"prompt": "question", "projector": "shuffle"},
                   columns=kinds, overrides=overrides, quiet=True)  # fmt: skip
    task: Any = model.model.tasks["answer"]
    assert {"photo", "photo_2", "album", "film", "sound", "motion", "cloud"} < set(task.streams)
    assert type(model.model.encoders["photo"]) is not type(model.model.encoders["photo_2"])
    batch = next(iter(model.batches(model.encode(sm.Table.read(rows)))))
    with torch.no_grad():
        output = Forward(model.model, batch).outputs["answer"]
    ids = task.speech.sequences(output, None).sequences.ids - task.lm.rows
    assert set(ids[1][ids[1] >= 0].tolist()) == set(range(len(task.streams))), "every stream has a place"
    assert not bool((ids[0] >= 0).any()), "a row without media has none"
    assert isinstance(model.predict(rows[:1])[0].value, str)


def test_a_tied_table_of_words_does_not_count_as_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers makes the output layer, and ties it afterwards: most weights of a small model are its table of words."""
    monkeypatch.setattr("sensorium.pretrained.build_budget.SPARE", 1000)
    write(tmp_path, "llama", vocab_size=3000, tie_word_embeddings=True)
    model = load(tmp_path)
    assert model.rows == 3000
    assert model.network.get_output_embeddings().weight is model.embedding.weight  # type: ignore[operator]


@pytest.mark.parametrize("kind", ["mistral", "gemma3_text", "gpt2", "phi"])
def test_every_architecture_is_saved_and_answers_the_same_when_loaded(kind: str, world: Path, tmp_path: Path) -> None:
    rows = list(sm.Table.read(world / "rows" / "table.csv").rows())[:6]
    rows = [
        {"photo": str(world / "rows" / r["photo"]) if r["photo"] else None, "question": "w1 w2", "answer": "w3"}
        for r in rows
    ]
    options = {"prompt": "question", "lm": str(tiny(kind)), "stage": "instruct", "longest": 3}
    model = sm.fit(rows, target="answer", task="conversation", options=options, columns={"photo": "image"},
                   overrides=SETTINGS, out=tmp_path / "run", quiet=True)  # fmt: skip
    again = sm.load(tmp_path / "run", lm=tiny(kind))
    assert [a.value for a in again.predict(rows)] == [a.value for a in model.predict(rows)]
    with pytest.raises((ConfigError, ArtifactError), match="another language model"):
        sm.load(tmp_path / "run", lm=tiny("llama"))


@pytest.mark.parametrize("projector", ["mlp", "shuffle"])
def test_stored_outputs_of_a_frozen_encoder_keep_their_places(projector: str, world: Path, tmp_path: Path) -> None:
    """Projectors read the grid of the tokens: training from stored outputs must show them the same as prediction."""
    models = []
    for store in ("true", "false"):
        surgery = f"model.surgery=[{{kind: freeze, streams: [photo], store: {store}}}]"
        own = {"prompt": "question", "lm": str(world / "tiny"), "projector": projector}
        table = world / "rows" / "table.csv"
        models.append(sm.fit(table, target="answer", task="conversation", options=own, ignore=["sound"], cache=tmp_path,
                             columns={"photo": {"kind": "image", "augment": "none"}},
                             overrides=[*SETTINGS, surgery, "model.encoders.photo=convnet"], quiet=True))  # fmt: skip
    stored, live = (model.model.state_dict() for model in models)
    for name, tensor in live.items():
        torch.testing.assert_close(stored[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_stopped_training_resumes_bit_identically(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sensorium.training.callbacks import Checkpoint

    tiny_language_model.table(tmp_path / "rows", 24, sound=False)
    real = Checkpoint.on_train_epoch_end

    def stop(self: Any, trainer: Any, module: Any) -> None:
        real(self, trainer, module)
        raise KeyboardInterrupt

    def fit(out: str, **more: Any) -> None:
        options = {"prompt": "question", "lm": str(tiny(kind)), "stage": "instruct"}
        sm.fit(tmp_path / "rows" / "table.csv", target="answer", task="conversation", options=options, ignore=["sound"],
               overrides=[*SETTINGS, "training.epochs=2"], out=tmp_path / out, quiet=True, **more)  # fmt: skip

    fit("whole")
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_train_epoch_end", stop)
        with pytest.raises(BaseException):  # noqa: B017 - however the trainer passes it on
            fit("stopped")
    fit("stopped", resume=True)
    for name in ("model.safetensors", "recipe.yaml", "schema.json"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@pytest.mark.parametrize(("kind", "tuning"), [("llama", "lora"), ("qwen2", "full")])
def test_two_processes_train_with_rows_of_text_alone(kind: str, tuning: str, tmp_path: Path) -> None:
    """Most rows have no medium, so that batches of one process have none."""
    path = tiny_language_model.table(tmp_path / "rows", 16, sound=False)
    rows = list(sm.Table.read(path).rows())
    lines = [f"{row['photo'] or '' if i < 4 else ''},{row['question']},{row['answer']}" for i, row in enumerate(rows)]
    path.write_text("\n".join(["photo,question,answer", *lines]), encoding="utf-8")
    options = {"prompt": "question", "lm": str(tiny(kind)), "stage": "instruct", "tuning": tuning}
    model = sm.fit(path, target="answer", task="conversation", options=options, columns={"photo": "image"},
                   overrides=[*SETTINGS, "training.devices=2", "training.batch_size=2"], out=tmp_path / "run",
                   quiet=True)  # fmt: skip
    assert np.isfinite(model.history[-1]["valid_loss"])
    assert isinstance(sm.load(tmp_path / "run", lm=tiny(kind)).predict([{"question": "w1"}])[0].value, str)
