"""The conversation task on tiny language models of several families."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import sensorium as sm
from sensorium.cli import app
from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.errors import ArtifactError, ConfigError, DataError
from sensorium.core.forward import Forward
from sensorium.core.goal import Goal
from sensorium.core.layout import Row
from sensorium.core.messages import Message, pack, read
from sensorium.core.registry import build
from sensorium.evaluation.controls import OTHER_ROWS
from sensorium.nn import causal_lm
from sensorium.nn.causal_lm import LmStep
from sensorium.objectives.supervised import Supervised
from sensorium.pretrained import speech
from sensorium.pretrained.chat_rows import texts_of
from sensorium.pretrained.chat_tokeniser import ChatTokeniser
from sensorium.pretrained.checkpoint import Checkpoint
from sensorium.pretrained.language_model import load
from sensorium.streaming.chat_session import Chat, StopTexts
from sensorium.tasks.conversation import Conversation
from sensorium.testing import checkpoints, tiny_language_model
from sensorium.testing.checkpoints import SPEAKING, tiny
from sensorium.testing.stand_in_speech import install
from sensorium.training.base_model import Base, adopt_base

DIM = 8
STORIES = Path(os.environ.get("SENSORIUM_STORIES", "stories260K"))
"""A folder with the language model stories260K, where there is one."""
QUICK = ["model.size=tiny", "training.epochs=2", "objectives=[{kind: supervised, subsets: 0}]"]


@pytest.fixture(scope="module", autouse=True)
def quiet() -> None:
    torch.set_num_threads(1)


def column(cells: Sequence[Any]) -> Field:
    reader = build("modalities", "messages")
    return reader.prepare(reader.collate([None if cell is None else reader.encode(cell) for cell in cells]))


def made(kind: str, streams: Sequence[str] = ("photo",), **options: Any) -> Any:
    """The task on a tiny language model of ``kind``, in evaluation mode, with weights that are not zero."""
    reader = build("modalities", "messages")
    goal = Goal("answer", {"answer": reader}, {"question": reader}, {name: Row((0,)) for name in streams})
    torch.manual_seed(0)
    task = build("tasks", {"kind": "conversation", "lm": str(tiny(kind)), "longest": 4, **options}, goal, DIM)
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return task.eval()


def media(counts: Sequence[int], seed: int = 0) -> Encoded:
    """A stream of which each row has so many tokens; 0: it is absent."""
    generator = torch.Generator().manual_seed(seed)
    real = torch.arange(max([*counts, 1])) < torch.tensor(counts)[:, None]
    tokens = torch.randn(*real.shape, DIM, generator=generator) * real[..., None]
    return Encoded(tokens, real, tokens.mean(dim=1), real.any(dim=1))


def inputs_of(task: Any, questions: Sequence[Any], parts: Mapping[str, Encoded]) -> Any:
    return task(next(iter(parts.values())), parts, {"question": column(questions)})


QUESTIONS = ["w1 w2 w3", "w4", "w1 w9 w8 w7 w6 w5 w4 w3 w2"]
COUNTS = [3, 0, 5]
ANSWERS = ["w5", "w6 w7 w8", "w9 w1"]


@pytest.mark.parametrize("kind", SPEAKING)
def test_answers_do_not_depend_on_the_batch(kind: str) -> None:
    """Padding changes neither losses nor answers, windows and positions included."""
    task, part = made(kind, beam=2), media(COUNTS)
    with torch.no_grad():
        together = inputs_of(task, QUESTIONS, {"photo": part})
        losses = task.loss(together, column(ANSWERS))
        answers = task.scored_answers(together)
        for i in range(3):
            one = part.map(lambda t, i=i: t[i : i + 1])
            one = replace(one, tokens=one.tokens[:, : max(COUNTS[i], 1)], mask=one.mask[:, : max(COUNTS[i], 1)])
            alone = inputs_of(task, QUESTIONS[i : i + 1], {"photo": one})
            assert task.loss(alone, column(ANSWERS[i : i + 1]))[0] == pytest.approx(float(losses[i]), abs=1e-4)
            ((first, score), *_), ((same, other), *_) = answers[i], task.scored_answers(alone)[0]
            assert (first, score) == (same, pytest.approx(other, abs=1e-4))


def test_passes_of_few_sequences_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    task, parts = made("llama", beam=2), {"photo": media([2, 0, 3])}
    with torch.no_grad():
        output = inputs_of(task, QUESTIONS, parts)
        answers = [task._ended("w1 w2"), task._ended("w3"), task._ended("w4 w5 w6")]
        whole = task.speech.generated(output, 4), task.speech.likelihood(output, answers), task.speech.surprise(QUESTIONS)
        passes: list[int] = []
        start = LmStep.start
        monkeypatch.setattr(LmStep, "start", lambda self, v, s: passes.append(len(v)) or start(self, v, s))
        monkeypatch.setattr(speech, "AT_ONCE", 2)
        sliced = task.speech.generated(output, 4), task.speech.likelihood(output, answers), task.speech.surprise(QUESTIONS)
    assert passes == [1, 1, 1]
    for one, other in zip(whole[0], sliced[0], strict=True):
        assert [text for text, _ in one] == [text for text, _ in other]
        assert [score for _, score in one] == pytest.approx([score for _, score in other], abs=1e-5)
    for one, other in zip((*whole[1], *whole[2]), (*sliced[1], *sliced[2]), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", SPEAKING)
def test_words_are_weighed_after_the_last_token_alone(kind: str) -> None:
    """Of vectors that are contiguous: else the weights of all words are repeated for each row."""
    task, received = made(kind), []
    head = task.lm.network.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, inputs: received.append(inputs[0]))
    with torch.no_grad():
        task.speech.generated(inputs_of(task, QUESTIONS, {"photo": media(COUNTS)}), 2)
    handle.remove()
    assert received
    assert all(vectors.shape[1] == 1 and vectors.is_contiguous() for vectors in received)


@pytest.mark.parametrize("kind", SPEAKING)
def test_padding_on_either_side_gives_the_same_logits(kind: str) -> None:
    task, part = made(kind), media(COUNTS)
    output = inputs_of(task, QUESTIONS, {"photo": part})
    results = []
    for side in ("left", "right"):
        answers = task._answers(column(ANSWERS))
        counts = {"photo": COUNTS}
        rows = task.speech.rows.sequences(texts_of(output.question), counts, answers, torch.device("cpu"), side=side)
        vectors = task.speech.vectors(output, rows.sequences)
        results.append(causal_lm.logits_at(task.lm.network, vectors, rows.sequences))
    assert torch.equal(results[0][1], results[1][1])
    torch.testing.assert_close(results[0][0], results[1][0], atol=2e-5, rtol=0)


@pytest.mark.parametrize("kind", SPEAKING)
def test_the_cache_changes_nothing(kind: str) -> None:
    """Greedy words one at a time, with the cache, are those of reading everything anew before each."""
    task, part = made(kind), media(COUNTS)
    with torch.no_grad():
        output = inputs_of(task, QUESTIONS, {"photo": part})
        rows = task.speech.sequences(output, None)
        vectors = task.speech.vectors(output, rows.sequences)
        step = causal_lm.LmStep(task.lm.network, task.lm.words.ends)
        cache = step.start(vectors, rows.sequences)
        tokens = torch.full((3,), task.lm.rows)
        sequences = rows.sequences
        for _ in range(4):
            logits, cache = step(tokens, cache)
            tokens = logits.argmax(dim=1)
            whole = task.lm.network(
                inputs_embeds=vectors, attention_mask=sequences.mask.long(), position_ids=sequences.places, use_cache=False
            ).logits[:, -1]
            torch.testing.assert_close(logits[:, :-1], whole.float(), atol=2e-5, rtol=0)
            vectors = torch.cat([vectors, task.lm.received(tokens)[:, None]], dim=1)
            more = torch.ones(3, 1, dtype=torch.bool)
            sequences = causal_lm.PaddedSequences(
                torch.cat([sequences.ids, tokens[:, None]], 1),
                torch.cat([sequences.mask, more], 1),
                torch.cat([sequences.learnt, more], 1),
            )


@pytest.mark.parametrize("kind", SPEAKING)
def test_media_vectors_have_the_scale_of_word_embeddings(kind: str) -> None:
    """Gemma multiplies the embeddings of its table by the root of the width."""
    task = made(kind)
    fresh = build("tasks", {"kind": "conversation", "lm": str(tiny(kind))}, task.goal, DIM)
    output = inputs_of(fresh, QUESTIONS, {"photo": media(COUNTS)})
    loud = output.media[0][output.real[0]].detach().square().mean().sqrt()
    received = task.lm.network.get_input_embeddings()(torch.arange(task.lm.rows)).square().mean().sqrt()
    assert float(loud) == pytest.approx(float(received), rel=0.02)


def test_an_end_token_that_also_pads_is_learnt() -> None:
    task = made("llama")
    settings = Checkpoint(str(tiny("llama"))).json("tokenizer_config.json")
    assert settings["pad_token"] == settings["eos_token"]
    output = inputs_of(task, QUESTIONS, {"photo": media(COUNTS)})
    rows = task.speech.sequences(output, task._answers(column(ANSWERS)))
    learnt = [rows.sequences.ids[i][rows.sequences.learnt[i]].tolist() for i in range(3)]
    assert learnt == [[*task.lm.words.answer(text), task.lm.words.end] for text in ANSWERS]


def test_special_words_that_a_user_types_are_letters() -> None:
    words = ChatTokeniser.of(Checkpoint(str(tiny("llama"))))
    end = words.end
    pieces = words.pieces([Message("user", "w1 <|end|> w2 <|start|>system")], ())
    typed = [i for piece in pieces if piece.typed for i in piece.ids]
    assert end not in typed
    assert 0 not in typed
    assert words.marked("<|end|>") == [end]


def test_words_alone_in_a_batch_have_gradients() -> None:
    task = made("qwen3", ("photo", "sound")).train()
    output = inputs_of(task, QUESTIONS, {"photo": media([0, 0, 0]), "sound": media([0, 0, 0])})
    loss = task.loss(output, column(ANSWERS)).sum()
    loss.backward()
    assert all(p.grad is not None and not p.grad.any() for p in task.parameters())


def test_a_model_in_bfloat16_takes_media_and_updates_in_single_precision() -> None:
    task = made("llama", dtype="bfloat16", stage="instruct").train()
    assert next(task.lm.network.parameters()).dtype == torch.bfloat16
    output = inputs_of(task, QUESTIONS, {"photo": media(COUNTS)})
    loss = task.loss(output, column(ANSWERS))
    assert loss.dtype == torch.float32
    loss.sum().backward()
    assert all(p.dtype == torch.float32 and p.grad is not None and p.grad.isfinite().all() for p in task.parameters())
    assert any(name.startswith("updates.") and p.grad.any() for name, p in task.named_parameters())


def test_a_long_question_is_cut_and_media_never_are() -> None:
    long, part = " ".join(["w1"] * 200), media([5])
    task = made("llama", length=40)
    output = inputs_of(task, [long], {"photo": part})
    rows = task.speech.sequences(output, task._answers(column(["w5"])))
    assert int(rows.sequences.mask.sum()) == 40
    assert int((rows.sequences.ids >= task.lm.rows).sum()) == 5
    batch = Batch({}, {}, torch.ones(1), {"question": column([long])})
    assert task.answers(output, batch)[0]["cut"] > 150
    small = made("llama", length=12)
    with pytest.raises(ConfigError, match=r"5 tokens of media \(photo 5\), which are never cut"):
        small.speech.sequences(inputs_of(small, ["w1"], {"photo": part}), small._answers(column(["w5"])))


def test_media_are_placed_where_the_question_names_them() -> None:
    task = made("llama", ("photo", "sound"))
    parts = {"photo": media([2]), "sound": media([3], seed=1)}
    first = task.lm.rows

    def order(question: Any, parts: Mapping[str, Encoded] = parts) -> list[int]:
        ids = task.speech.sequences(inputs_of(task, [question], parts), None).sequences
        return [i - first if i >= first else -1 for i in ids.ids[0][ids.mask[0]].tolist()]

    def runs(ids: list[int]) -> list[int]:
        return [a for a, b in zip(ids, [None, *ids], strict=False) if a != b]

    assert runs(order("w1 <sound> w2 <photo> w3")) == [-1, 1, -1, 0, -1]
    assert runs(order("w1")) == [-1, 0, 1, -1], "before the question, in the order of the columns"
    assert runs(order("w1 <sound> w2")) == [-1, 0, -1, 1, -1]
    turns = [{"role": "user", "content": "w1"}, {"role": "assistant", "content": "<photo>"},
             {"role": "user", "content": "w2 <photo>"}]  # fmt: skip
    assert runs(order(turns)) == [-1, 1, -1, 0, -1], "an assistant shows nothing"
    gone = {"photo": media([0]), "sound": parts["sound"]}
    assert runs(order("w1 <photo> w2", gone)) == [-1, 1, -1], "the place of what is missing is left out"
    assert order("w1 <photo> w2", gone).count(-1) == order("w1  w2", gone).count(-1)


def test_all_turns_of_the_assistant_are_learnt_or_the_last() -> None:
    turns = [
        {"role": "system", "content": "w9"},
        {"role": "user", "content": "w1"},
        {"role": "assistant", "content": "w2 w3"},
        {"role": "user", "content": "w4"},
    ]
    for earlier, wanted in ((True, ["w2", "w3", "<|end|>", "w5", "<|end|>"]), (False, ["w5", "<|end|>"])):
        task = made("llama", earlier=earlier)
        rows = task.speech.sequences(inputs_of(task, [turns], {"photo": media([0])}), task._answers(column(["w5"])))
        ids = rows.sequences.ids[0][rows.sequences.learnt[0]].tolist()
        assert [task.lm.words._marked.id_to_token(i) for i in ids] == wanted


def test_forms_of_conversations_are_the_same() -> None:
    llava = [{"from": "human", "value": "<image>\nw1"}, {"from": "gpt", "value": "w2"}]
    openai = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "w1"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "w2"}]},
    ]
    wanted = [Message("user", "<image>\nw1"), Message("assistant", "w2")]
    assert read(llava) == read(openai) == read(json.dumps(llava)) == wanted
    assert pack(wanted) == pack(read(json.loads(pack(wanted))))  # type: ignore[arg-type]
    assert read('["a", "b"]') == ["a", "b"]
    assert read("[1, 2") == "[1, 2"


def test_a_template_without_a_system_gets_its_words_with_the_question(tmp_path: Path) -> None:
    folder = shutil.copytree(tiny("llama"), tmp_path / "lm")
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}" + checkpoints.CHATML
    dropping = checkpoints.CHATML.replace("for m in messages", "for m in messages if m['role'] != 'system'")
    turns = [Message("system", "w9"), Message("user", "w1 <photo>")]
    for template in (refusing, dropping):
        checkpoints.write_word_tokeniser(folder, [f"w{i}" for i in range(36)], template)
        pieces = ChatTokeniser.of(Checkpoint(str(folder))).pieces(turns, ("photo",))
        words = ChatTokeniser.of(Checkpoint(str(folder)))
        texts = [
            words.decode(piece.ids) if piece.stream is None else piece.stream
            for piece in pieces
            if piece.typed or piece.stream
        ]
        assert [text for text in texts if text] == ["w9", "w1", "photo"]


def test_one_of_several_answers_with_probabilities() -> None:
    task = made("llama", choices=["w5", "w6 w7", "w8"])
    output = inputs_of(task, QUESTIONS, {"photo": media(COUNTS)})
    batch = Batch({}, {}, torch.ones(3), {"question": column(QUESTIONS)})
    for i, answer in enumerate(task.answers(output, batch)):
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert answer["value"] == max(answer["probabilities"], key=answer["probabilities"].get)
        losses = [
            float(task.loss(output, column([c] * 3)).detach()[i]) * n for c, n in (("w5", 2), ("w6 w7", 3), ("w8", 2))
        ]
        assert answer["value"] == ["w5", "w6 w7", "w8"][losses.index(min(losses))]
    assert task.labels == ("w5", "w6 w7", "w8")


def test_code_pickles_adapters_and_quantised_weights_are_refused(tmp_path: Path) -> None:
    def copied(name: str, **changes: Any) -> Path:
        folder = shutil.copytree(tiny("llama"), tmp_path / name)
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(settings | changes))
        return folder

    bad = copied("code", model_type="mine", auto_map={"AutoModelForCausalLM": "evil.Model"})
    (bad / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ConfigError, match="no causal language model of type 'mine'"):
        load(bad)
    mapped = copied("mapped", auto_map={"AutoModelForCausalLM": "evil.Model"})
    (mapped / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert load(mapped).width == 16, "the model that transformers has is taken"
    assert not (tmp_path / "ran").exists()
    pickled = copied("pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="could run code"):
        load(pickled)
    with pytest.raises(ConfigError, match="quantised"):
        load(copied("quantised", quantization_config={"quant_method": "bitsandbytes"}))
    adapter = copied("adapter")
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigError, match="is an adapter"):
        load(adapter)
    with pytest.raises(ConfigError, match="there is no folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="too large"):
        load(copied("layers", num_hidden_layers=10**9))
    with pytest.raises(ConfigError, match=r"larger network|cannot be loaded"):
        load(copied("wide", num_hidden_layers=4000, intermediate_size=10**7))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of questions and a language model with random weights, ``tiny``."""
    folder = tmp_path_factory.mktemp("world")
    tiny_language_model.write(folder / "tiny", steps=0)
    tiny_language_model.table(folder / "rows", 40, holes=0.1)
    return folder


@pytest.fixture(scope="module")
def run(world: Path) -> Path:
    command = ["fit", str(world / "rows" / "table.csv"), "--lm", "tiny", "--target", "answer", "--prompt", "question",
               "--stage", "instruct", "--out", "run", "-q", *QUICK]  # fmt: skip
    before = Path.cwd()
    os.chdir(world)
    try:
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output + repr(done.exception)
    finally:
        os.chdir(before)
    return world / "run"


def test_a_saved_model_holds_what_was_trained_and_needs_its_language_model(run: Path, world: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    names = set(load_file(run / "model.safetensors"))
    assert any(".updates." in name for name in names)
    assert not [name for name in names if "embed_tokens" in name or "q_proj" in name]
    assert str(world) not in (run / "recipe.yaml").read_text(), "no path of the trainer's"
    table = world / "rows" / "table.csv"
    first = [p.value for p in sm.load(run).predict(table)]
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(run, elsewhere / "run")
    shutil.copytree(world / "tiny", elsewhere / "other")
    assert [p.value for p in sm.load(elsewhere / "run", lm=elsewhere / "other").predict(table)] == first
    tiny_language_model.write(tmp_path / "another", steps=0, seed=1)
    with pytest.raises(ArtifactError, match="was trained on another language model"):
        sm.load(run, lm=tmp_path / "another")
    with pytest.raises(ArtifactError, match="no folder"):
        sm.load(run, lm=tmp_path / "nowhere")


def test_another_process_asks_for_the_language_model(run: Path, world: Path, tmp_path: Path) -> None:
    from sensorium.core import borrowed_weights

    known = dict(borrowed_weights._KNOWN)
    borrowed_weights._KNOWN.clear()
    try:
        assert sm.load(run).model, "it lies beside the run"
        borrowed_weights._KNOWN.clear()
        shutil.copytree(run, tmp_path / "run")
        with pytest.raises(ArtifactError, match="--lm FOLDER"):
            sm.load(tmp_path / "run")
        done = CliRunner().invoke(app, ["predict", str(tmp_path / "run"), str(world / "rows" / "table.csv"), "-q",
                                        "--lm", str(world / "tiny")])  # fmt: skip
        assert done.exit_code == 0, done.output
    finally:
        borrowed_weights._KNOWN.update(known)


def test_rows_in_the_form_of_conversations_are_predicted(run: Path, world: Path) -> None:
    """A list of them is read as a file of them is: its questions are not left out."""
    turns = [{"role": "user", "content": "who says moo?"}]
    asked, plain = (
        sm.load(run).predict(rows)[0].to_json() for rows in ([{"messages": turns}], [{"question": "who says moo?"}])
    )
    assert asked["targets"] == plain["targets"]
    assert asked["targets"] != sm.load(run).predict([{"question": None}])[0].to_json()["targets"]


def test_conversations_about_nothing_are_refused_in_words(world: Path) -> None:
    table = [{"question": "who says moo?", "answer": "cow"}] * 20
    options = {"prompt": "question", "lm": str(world / "tiny")}
    with pytest.raises(DataError, match="no column is left to learn from") as raised:
        sm.fit(table, target="answer", task="conversation", options=options, quiet=True)
    assert "--ignore" not in str(raised.value)


def test_it_is_scored_beside_the_same_question_without_media(run: Path, world: Path) -> None:
    scores = sm.load(run).evaluate(world / "rows" / "table.csv").targets["answer"]
    assert set(scores.controls) == {OTHER_ROWS, "without media", "most frequent answer to the question"}
    assert {"exact_match", "normalised_match", "vqa_accuracy", "cider"} <= set(scores.metrics)
    assert scores.headline == "exact_match"
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "answer, without media: exact match" in report


def test_a_row_is_explained_and_predicted_as_json(run: Path, world: Path) -> None:
    model = sm.load(run)
    answer = model.predict([{"question": "who says moo?"}])[0].to_json()
    assert set(answer["targets"]["answer"]) == {"value", "score", "confidence", "alternatives"}
    explained = model.explain(world / "rows" / "table.csv", row=3, where=False)
    assert "log-likelihood" in json.dumps(explained.to_json())


def test_decoding_of_a_trained_model_is_chosen_anew(run: Path) -> None:
    question = [{"question": "who says moo?"}]
    assert not sm.load(run).predict(question)[0].targets["answer"]["alternatives"]
    wide = sm.load(run, decoding={"beam": 3, "longest": 4})
    assert len(wide.predict(question)[0].targets["answer"]["alternatives"]) == 2
    with pytest.raises(ConfigError, match="conversation: beam: 0 is too small"):
        sm.load(run, decoding={"beam": 0})


def test_text_only_rows_are_learnt(run: Path) -> None:
    """The loss of a row without any stream counts."""
    model = sm.load(run)
    rows = [{"question": "who says moo?", "answer": "cow"}]
    batch = next(iter(model.batches(model.encode(sm.Table.read(rows)))))
    with torch.no_grad():
        terms = Supervised(model.model, subsets=0)(Forward(model.model, batch))
    assert float(terms["answer"]) > 0.1


@pytest.mark.skipif(not STORIES.is_dir(), reason="SENSORIUM_STORIES names no folder with the language model stories260K")
def test_a_real_language_model_goes_on_with_its_story() -> None:
    reader = build("modalities", "messages")
    goal = Goal("answer", {"answer": reader}, {"question": reader}, {"photo": Row((0,))})
    task = build("tasks", {"kind": "conversation", "lm": str(STORIES), "longest": 20}, goal, DIM).eval()
    with torch.no_grad():
        output = inputs_of(task, ["Once upon a time, there was a little girl"], {"photo": media([0])})
        text = task.scored_answers(output)[0][0][0]
        right, wrong = (float(task.loss(output, column([t]))[0]) for t in ("She was happy.", "qx zzk vvk."))
    assert len(text.split()) > 3
    assert right < wrong - 1


def test_media_inform_the_answers(tmp_path: Path) -> None:
    """A language model that read texts with words in the place of media, then learnt to see on 160 rows."""
    tiny_language_model.write(tmp_path / "tiny", steps=160)
    train = tiny_language_model.table(tmp_path / "train", 160, 1, sound=False)
    test = tiny_language_model.table(tmp_path / "test", 150, 2, sound=False)
    settings = [
        "model.size=tiny",
        "training.epochs=10",
        "training.lr=0.01",
        "training.batch_size=16",
        "training.refit=none",
    ]
    options = {"prompt": "question", "lm": str(tmp_path / "tiny")}
    model = sm.fit(train, target="answer", task="conversation", options=options, ignore=["sound"], overrides=settings,
                   quiet=True)  # fmt: skip
    scores = model.evaluate(test).targets["answer"]
    sighted = scores.metrics["exact_match"]
    assert sighted > scores.controls["without media"].metrics["exact_match"] + 0.3
    assert sighted > scores.controls[OTHER_ROWS].metrics["exact_match"] + 0.3
    assert model.predict([{"question": "who says moo?"}])[0].value == "cow", "what it knew it still knows"


@pytest.mark.parametrize("decoding", [{}, {"decode": "sample", "temperature": 1.5, "seed": 3}])
def test_pieces_are_those_of_the_whole_answer(decoding: dict[str, Any]) -> None:
    task = made("qwen2", **{"longest": 12, **decoding})
    output = inputs_of(task, ["w1 w2"], {"photo": media([3])})
    whole = task.scored_answers(output)[0][0][0]
    *pieces, ended = task.stream_answer(output)
    assert "".join(pieces) == whole
    assert isinstance(ended, bool)


def test_a_chat_on_the_command_line(run: Path, world: Path, cli: Any) -> None:
    picture = next(iter((world / "rows").glob("*.png")))
    code, out, err = cli("chat", run, "--image", picture, "--lm", world / "tiny", "what colour is it?")
    assert code == 0, err
    row = {"photo": str(picture), "question": "what colour is it?"}
    assert out.strip() == sm.load(run).predict([row])[0].value
    code, _, err = cli("chat", run, "--show", "phto=x.png", "hello")
    assert code == 2
    assert "did you mean photo" in err


@pytest.fixture
def wordy(monkeypatch: pytest.MonkeyPatch) -> str:
    """Every answer is this one, whatever the untrained language model says."""

    class Wordy:
        def __init__(self) -> None:
            self.left = iter(["low ", "warm", " bar", True])

        def add(self, output: Any, settings: Any) -> list[int]:
            return [0]

        def advance(self) -> list[tuple[int, Any]]:
            return [(0, next(self.left))]

        def remove(self, number: int) -> None:
            self.left = iter(())

    monkeypatch.setattr(Conversation, "answer_batch", lambda self: Wordy())
    return "low warm bar"


def test_a_chat_stops_and_chooses(run: Path, world: Path, cli: Any, wordy: str) -> None:
    code, out, _ = cli("chat", run, "--lm", world / "tiny", "--choice", "red", "--choice", "blue", "what colour is it?")
    assert code == 0
    chances = {line.split()[1]: float(line.split()[0]) for line in out.splitlines()}
    assert set(chances) == {"red", "blue"}
    assert sum(chances.values()) == pytest.approx(1, abs=0.002)
    chat = Chat(sm.load(run).predictor)
    assert chat.choose("what colour is it?", ["red", "blue"]) == pytest.approx(chances, abs=0.001)
    assert chat.turns[-1]["content"] == max(chances, key=lambda text: chances[text])
    with pytest.raises(ConfigError, match="two or more different"):
        chat.choose("hm?", ["red"])
    _, out, _ = cli("chat", run, "--lm", world / "tiny", "--stop", "rm b", "hello")
    assert out == wordy.partition("rm b")[0] + "\n"
    code, _, err = cli("chat", run, "--lm", world / "tiny", "--stop", "", "hello")
    assert code == 2
    assert "--stop" in err


@pytest.mark.parametrize(
    ("pieces", "heard"),
    [
        (["a E", "N", "D b", False], ["a ", True]),
        (["a E", "N", "x", False], ["a ", "ENx", False]),
        (["EN", True], ["EN", True]),
    ],
)
def test_stop_texts_are_recognised_across_pieces(pieces: list[str | bool], heard: list[str | bool]) -> None:
    stops = StopTexts(["END"])
    made: list[str | bool] = []
    for piece in pieces:
        made += stops.push(piece)
        if made and isinstance(made[-1], bool):
            break
    assert made == heard


def test_a_spoken_answer_is_written(
    run: Path, world: Path, cli: Any, wordy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = tmp_path / "answer.wav"
    code, _, err = cli("chat", run, "--lm", world / "tiny", "--spoken", answer, "hello")
    assert code == 2
    assert "needs a recogniser" in err
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    code, _, err = cli("chat", run, "--lm", world / "tiny", "--speak", answer, "who says moo?")
    assert code == 2
    assert "apt-get install" in err
    notes = install(tmp_path / "bin", "espeak-ng")
    command = ("chat", run, "--lm", world / "tiny", "--speak", answer, "--language", "de", "hello")
    code, out, err = cli(*command)
    assert code == 0, err
    args, text = json.loads(notes.read_text(encoding="utf-8"))
    assert "de" in args
    assert text.strip() == out.strip() == wordy
    assert answer.read_bytes()[:4] == b"RIFF"


def test_the_language_model_is_checked_before_the_table_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder"):
        sm.fit(
            tmp_path / "absent.csv", target="answer", task="conversation", options={"lm": str(tmp_path / "lm")}, quiet=True
        )


def test_a_chat_has_turns(run: Path) -> None:
    chat = Chat(sm.load(run).predictor)
    first = "".join(chat.ask("what colour is it?"))
    "".join(chat.ask("which shape is it?"))
    assert [turn["role"] for turn in chat.turns] == ["user", "assistant", "user", "assistant"]
    assert chat.turns[1]["content"] == first
    chat.show({"photo": "x.png"})
    with pytest.raises(ConfigError, match="takes 1 input of kind image: photo"):
        chat.attach("image", "y.png")


def test_merged_updates_answer_the_same(run: Path, world: Path, cli: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    before = sm.load(run)
    with torch.no_grad():
        for name, parameter in before.model.named_parameters():
            if ".updates." in name:
                parameter.add_(0.05 * torch.randn_like(parameter))
    before.save(tmp_path / "stirred")
    code, _, err = cli("merge", tmp_path / "stirred", "--out", tmp_path / "whole", "--lm", world / "tiny")
    assert code == 0, err
    after = sm.load(tmp_path / "whole")
    assert not [name for name in after.model.state_dict() if ".updates." in name]
    table = world / "rows" / "table.csv"
    for one, other in zip(before.predict(table), after.predict(table), strict=True):
        assert one.value == other.value
        assert one.targets["answer"]["score"] == pytest.approx(other.targets["answer"]["score"], abs=1e-4)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "whole" / "lm")
    assert plain.config.vocab_size == load(world / "tiny").rows


def test_what_was_forgotten_is_scored(run: Path, world: Path) -> None:
    model = sm.load(run)
    metrics = model.evaluate(world / "rows" / "table.csv").targets["answer"].metrics
    task: Any = model.model.tasks["answer"]
    rows = sm.Table.read(world / "rows" / "table.csv")
    texts = [row["question"] for row in rows.rows() if row["answer"]]
    network, words = load(world / "tiny").network, task.lm.words
    total = count = 0.0
    for text in texts:
        ids = torch.tensor([words.typed(text)])
        with torch.no_grad():
            total += float(network(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    assert metrics["text_perplexity_before"] == pytest.approx(float(torch.tensor(total / count).exp()), rel=1e-3)
    assert metrics["text_perplexity"] != metrics["text_perplexity_before"]


# ── from one stage to the next ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def aligned(world: Path) -> Path:
    """A run of the stage ``align`` with a resampler, over pictures alone."""
    options = {"prompt": "question", "lm": str(world / "tiny"), "projector": "resampler", "tokens": 3}
    rows = world / "rows" / "table.csv"
    overrides = [*QUICK, "training.epochs=1", "training.refit=none"]
    sm.fit(rows, target="answer", task="conversation", options=options, ignore=["sound"], overrides=overrides,
           out=world / "aligned", quiet=True)  # fmt: skip
    return world / "aligned"


def test_the_next_stage_takes_over_what_was_aligned(
    aligned: Path, world: Path, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: dict[str, Any] = {}
    fresh: dict[str, Any] = {}
    adopt = Base.adopt_into

    def watched(self: Any, model: Any, plan: Any) -> None:
        fresh.update({name: t.clone() for name, t in model.state_dict().items()})
        adopt(self, model, plan)
        taken.update({name: t.clone() for name, t in model.state_dict().items()})

    monkeypatch.setattr(Base, "adopt_into", watched)
    quick = [*QUICK, "training.epochs=1", "training.refit=none"]
    code, _, err = cli("fit", world / "rows" / "table.csv", "--lm", world / "tiny", "--target", "answer", "--prompt",
                       "question", "--stage", "instruct", "--init", aligned, "--out", tmp_path / "b", *quick)  # fmt: skip
    assert code == 0, err
    assert "answer: projectors of photo taken over; projectors of sound and low-rank update starting afresh" in err
    before = sm.load(aligned).model.state_dict()
    ours = [name for name in before if ".projectors." in name]
    assert len(ours) > 5
    assert all(torch.equal(taken[name], before[name]) for name in ours)
    assert not all(torch.equal(fresh[name], before[name]) for name in ours)
    others = [name for name in taken if name.startswith("tasks") and name not in ours]
    assert any(".updates." in name for name in others)
    assert any("of_sound" in name for name in others)
    assert all(torch.equal(taken[name], fresh[name]) for name in others), "starts afresh, and knows its own rows"
    again = sm.load(tmp_path / "b")
    (options,) = (dict(spec) for spec in again.recipe.model.tasks.values() if not isinstance(spec, str))
    assert (options["projector"], options["tokens"], options["stage"]) == ("resampler", 3, "instruct")


def test_a_low_rank_update_goes_on(run: Path, world: Path) -> None:
    """Adopted by a model that is not trained yet; the same stage follows from the base."""
    from sensorium.core.recipe import Recipe
    from sensorium.model import assemble

    theirs = sm.load(run, lm=world / "tiny")
    spec = next(iter(theirs.recipe.model.tasks.values()))
    assert not isinstance(spec, str)
    said = {name: spec[name] for name in ("kind", "target", "prompt")} | {"lm": str(world / "tiny")}
    plan = Recipe.parse({"init": {"base": str(run)}, "model": {"tasks": {"answer": said}}})
    base = Base.of(plan)
    assert base is not None
    assert base.notes(plan, theirs.schema)[1].endswith("projectors of photo, sound and low-rank update taken over")
    plan = base.with_model(plan, theirs.schema)
    tasks = {"answer": {**spec, **dict(plan.model.tasks["answer"])}}
    model = assemble(theirs.recipe.model.model_copy(update={"tasks": tasks}), theirs.schema, experts=False)
    adopt_base(model, plan)
    given = theirs.model.state_dict()
    names = [name for name in given if ".updates." in name or ".projectors." in name]
    assert any(".updates." in name and bool(given[name].any()) for name in names)
    assert all(torch.equal(model.state_dict()[name], given[name]) for name in names)


def test_a_base_that_speaks_otherwise_is_refused(aligned: Path, run: Path, world: Path, tmp_path: Path) -> None:
    tiny_language_model.write(tmp_path / "another", steps=0, seed=1)
    for base, options, words, mend in (
        (aligned, {"projector": "mlp"}, "projector is 'mlp', and the base was trained with 'resampler'", "--projector"),
        (aligned, {"tokens": 5}, "tokens is 5, and the base was trained with 3", "--tokens"),
        (aligned, {"lm": str(tmp_path / "another")}, "another language model", "--lm"),
        (aligned, {"lm": None}, "no language model", "--lm"),
        (run, {"stage": "align"}, "would lose the low-rank update", "sensorium merge"),
        (run, {"rank": 2}, "rank is 2, and the base was trained with 8", "--rank"),
    ):
        with pytest.raises((ConfigError, ArtifactError), match=words) as refused:
            sm.fit(world / "rows" / "table.csv", target="answer", task="conversation", init=base, overrides=QUICK,
                   options={"prompt": "question", "lm": str(world / "tiny"), **options}, quiet=True)  # fmt: skip
        assert mend in (refused.value.fix or "")
