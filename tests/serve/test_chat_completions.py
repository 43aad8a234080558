"""Chat completions: the client of OpenAI talks to a language model with senses."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from sensorium.data.files.media_access import UPLOADS_ONLY
from sensorium.predictor import Predictor
from sensorium.serve.chat_completions import _wish
from sensorium.serve.limits import Limits
from sensorium.testing.stand_in_speech import install


@pytest.fixture(scope="module")
def server(chat_model: Any, make_client: Any) -> Any:
    predictor = Predictor(chat_model.artifact, device="cpu", media=UPLOADS_ONLY)
    return make_client({"seeing": predictor}, merge="never", limits=Limits(file=100_000))


@pytest.fixture(scope="module")
def client(server: Any) -> Any:
    openai = pytest.importorskip("openai", reason="the client of OpenAI is not installed")
    return openai.OpenAI(base_url="http://localhost/v1", api_key="none", http_client=server, max_retries=0)


def pictured(chat_folder: Path, question: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Turns with a picture and a sound, and the row that they are."""
    picture, sound = (next((chat_folder / "rows").glob(f"*.{ending}")) for ending in ("png", "wav"))
    url = "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
    heard = {"data": base64.b64encode(sound.read_bytes()).decode(), "format": "wav"}
    parts = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "input_audio", "input_audio": heard},
        {"type": "text", "text": question},
    ]
    row = {"photo": str(picture), "sound": str(sound), "question": f"<photo>\n<sound>\n{question}"}
    return [{"role": "user", "content": parts}], row


def test_an_answer_is_that_of_predict(client: Any, chat_model: Any, chat_folder: Path) -> None:
    messages, row = pictured(chat_folder, "what colour is it?")
    done = client.chat.completions.create(model="seeing", messages=messages)
    assert done.choices[0].message.content == chat_model.predict([row])[0].value
    assert done.choices[0].finish_reason in ("stop", "length")
    assert [one.id for one in client.models.list()] == ["seeing"]


def test_words_arrive_one_by_one(client: Any, chat_folder: Path) -> None:
    messages, _ = pictured(chat_folder, "which shape is it?")
    whole = client.chat.completions.create(model="seeing", messages=messages, max_tokens=4, temperature=0)
    request = {"model": "seeing", "messages": messages, "max_tokens": 4, "temperature": 0}
    chunks = list(client.chat.completions.create(**request, stream=True))
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    assert "".join(pieces) == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert len(pieces) > 1 or " " not in whole.choices[0].message.content


def test_a_seed_gives_the_same_words(client: Any) -> None:
    turns = [
        {"role": "system", "content": "answer in a word"},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "who says moo?"},
    ]

    def reply(seed: int) -> str:
        done = client.chat.completions.create(model="seeing", messages=turns, temperature=1.9, seed=seed, max_tokens=8)
        return str(done.choices[0].message.content)

    assert reply(1) == reply(1)
    assert len({reply(seed) for seed in range(5)}) > 1


def test_a_share_of_nothing_leaves_the_most_probable_token(client: Any) -> None:
    def reply(**settings: Any) -> str:
        turns = [{"role": "user", "content": "who says moo?"}]
        done = client.chat.completions.create(model="seeing", messages=turns, max_tokens=8, **settings)
        return str(done.choices[0].message.content)

    greedy = reply(temperature=0)
    assert any(reply(temperature=1.9, seed=seed) != greedy for seed in range(5))
    assert all(reply(temperature=1.9, top_p=0, seed=seed) == greedy for seed in range(5))


def test_a_seed_or_a_share_without_a_temperature_samples_at_temperature_1(client: Any) -> None:
    def reply(**settings: Any) -> str:
        turns = [{"role": "user", "content": "who says moo?"}]
        done = client.chat.completions.create(model="seeing", messages=turns, max_tokens=8, **settings)
        return str(done.choices[0].message.content)

    greedy, seeds = reply(), range(12)
    assert greedy == reply(temperature=0) == reply(top_p=1)
    seeded = [reply(seed=seed) for seed in seeds]
    assert seeded == [reply(temperature=1, seed=seed) for seed in seeds]
    assert len(set(seeded)) > 1
    assert reply(top_p=0.99) == reply(temperature=1, top_p=0.99)
    assert [reply(top_p=0.99, seed=seed) for seed in seeds] == [
        reply(temperature=1, top_p=0.99, seed=seed) for seed in seeds
    ]
    assert {reply(top_p=0, seed=seed) for seed in seeds} == {greedy}
    assert {reply(temperature=0, top_p=0.99, seed=seed) for seed in seeds} == {greedy}


@pytest.mark.parametrize(
    ("asked", "temperature"),
    [
        ({}, None),
        ({"top_p": 1}, None),
        ({"top_p": None, "seed": None}, None),
        ({"top_p": 0.5}, 1.0),
        ({"seed": 0}, 1.0),
        ({"top_p": 1, "seed": 7}, 1.0),
        ({"top_p": 0, "seed": 7}, 0.0),
        ({"top_p": 0.5, "seed": 7, "temperature": 0}, 0),
        ({"top_p": 0.5, "seed": 7, "temperature": 0.3}, 0.3),
    ],
)
def test_the_temperature_of_a_request(asked: dict[str, Any], temperature: float | None) -> None:
    assert _wish(asked).temperature == temperature


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"messages": []}, "messages must be a list"),
        ({"messages": [{"role": "user", "content": "a"}], "n": 2}, "n must be 1"),
        ({"messages": [{"role": "user", "content": "a"}], "tools": []}, "'tools' is not supported"),
        ({"messages": [{"role": "user", "content": "a"}], "max_tokens": 10**9}, "max_tokens must be"),
        ({"messages": [{"role": "user", "content": "a"}], "temperature": "hot"}, "temperature must be"),
        ({"messages": [{"role": "user", "content": "a"}], "top_p": -0.1}, "top_p must be a number from 0 to 1"),
        ({"messages": [{"role": "user", "content": "a"}], "top_p": 1.1}, "top_p must be a number from 0 to 1"),
        ({"messages": [{"role": "user", "content": "a"}], "stop": [""]}, "stop must be"),
        ({"messages": [{"role": "user", "content": "a"}], "stop": ["a"] * 17}, "17 stop texts"),
        ({"messages": [{"role": "user", "content": "a"}], "answers": ["a", "a"]}, "2 to 64 different"),
        ({"messages": [{"role": "user", "content": "a"}], "answers": ["a", "b"], "stream": True}, "not streamed"),
        ({"messages": [{"role": "user", "content": "a"}], "modalities": ["smell"]}, "modalities must be"),
        ({"messages": [{"role": "user", "content": "a"}], "audio": {"format": "wav"}}, "needs the modality audio"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "last turn"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "needs a role"),
        ({"messages": [{"role": ["user"], "content": "a"}]}, "needs a role"),
        ({"messages": [{"role": "user", "content": [{"type": "file"}]}]}, "not supported"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:image/png;base64,"}]}]},
            "image_url is not an object",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "data:"}}]}]},
            "this model takes no video",
        ),
        ({"messages": [{"role": "user", "content": "a"}], "row": [1]}, "row must be an object"),
        ({"messages": [{"role": "user", "content": "a" * 2_000_000}]}, "a text of"),
        ({"model": "other", "messages": [{"role": "user", "content": "a"}]}, "no model named 'other'"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/a.png"}}]}]},
            "no address is fetched",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}
                ]
            },
            "no address is fetched",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 300_000}}],
                    }
                ]
            },
            "a file of more than",
        ),
    ],
)
def test_bad_requests_name_the_problem(server: Any, body: dict[str, Any], problem: str) -> None:
    answer = server.post("/v1/chat/completions", json=body)
    assert 400 <= answer.status_code < 500
    assert problem in answer.json()["error"]["problem"]


def test_a_damaged_picture_is_refused(server: Any) -> None:
    url = "data:image/png;base64," + base64.b64encode(b"no picture").decode()
    content = [{"type": "image_url", "image_url": {"url": url}}]
    answer = server.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": content}]})
    assert answer.status_code == 422
    assert answer.json()["error"]["column"] == "photo"


def test_a_model_that_does_not_converse_has_no_chat(make_client: Any) -> None:
    assert make_client().post("/v1/chat/completions", json={}).status_code == 404


def wordy(client: Any) -> tuple[dict[str, Any], str]:
    """A request with an answer of some words, and this answer."""
    for seed in range(20):
        request = {
            "model": "seeing",
            "messages": [{"role": "user", "content": "hello"}],
            "max_tokens": 6,
            "temperature": 1.9,
            "seed": seed,
        }
        answer = str(client.chat.completions.create(**request).choices[0].message.content)
        if answer.count(" ") > 2:
            return request, answer
    raise AssertionError("every answer is short")


def test_a_stop_text_ends_the_answer(client: Any) -> None:
    request, complete = wordy(client)
    stop = complete[len(complete) // 2 :][:3]
    done = client.chat.completions.create(**request, stop=[stop, "never"]).choices[0]
    assert done.message.content == complete[: complete.index(stop)]
    assert done.finish_reason == "stop"
    chunks = list(client.chat.completions.create(**request, stop=stop, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == done.message.content


def test_one_of_several_answers_with_probabilities(client: Any, chat_model: Any, chat_folder: Path) -> None:
    messages, _ = pictured(chat_folder, "what colour is it?")
    done = client.chat.completions.create(
        model="seeing", messages=messages, extra_body={"answers": ["red", "blue", "green"]}
    ).choices[0]
    chances = done.model_extra["probabilities"]
    assert set(chances) == {"red", "blue", "green"}
    assert sum(chances.values()) == pytest.approx(1)
    assert done.message.content == max(chances, key=chances.get)


def test_answers_are_spoken_where_requested(
    client: Any, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, answer = wordy(client)
    spoken = {**request, "modalities": ["text", "audio"], "audio": {"voice": "slt", "format": "wav"}}
    monkeypatch.setenv("PATH", str(tmp_path))
    refused = server.post("/v1/chat/completions", json=spoken)
    assert refused.status_code == 422
    assert "apt-get install" in refused.json()["error"]["fix"]
    notes = install(tmp_path)
    message = client.chat.completions.create(**spoken).choices[0].message
    assert message.content == answer
    assert message.audio.transcript == message.content
    assert base64.b64decode(message.audio.data)[:4] == b"RIFF"
    args, text = json.loads(notes.read_text(encoding="utf-8"))
    assert "slt" in args
    assert text.split() == message.content.split()


def test_answers_of_several_clients_share_passes(client: Any, chat_model: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def answer(turn: tuple[str, int]) -> str:
        question, seed = turn
        turns = [{"role": "user", "content": question}]
        done = client.chat.completions.create(model="seeing", messages=turns, temperature=1.5, seed=seed, max_tokens=30)
        return str(done.choices[0].message.content)

    turns = [(" ".join(["who says moo?"] * (i + 1)), i) for i in range(4)]
    alone = [answer(turn) for turn in turns]
    assert len(set(alone)) > 1
    rows: list[int] = []
    network = next(iter(chat_model.artifact.model.tasks.values())).lm.network
    hook = network.register_forward_hook(
        lambda network, args, kwargs, out: rows.append(len(kwargs["attention_mask"])), with_kwargs=True
    )
    with ThreadPoolExecutor(len(turns)) as threads:
        together = list(threads.map(answer, turns))
    hook.remove()
    assert together == alone
    assert max(rows) > 1
