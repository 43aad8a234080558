"""NaN and infinite outputs of a model are errors, not predictions."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from sensorium.core.answer import Attachment, finite
from sensorium.core.errors import AnswerError
from sensorium.data.files.media_access import UPLOADS_ONLY
from sensorium.predictor import Predictor

WORDS = "the model's answer to 'event' is not a number"


@pytest.fixture(scope="module")
def damaged(trained: Any) -> Predictor:
    """A model with a NaN in every weight of its last layers."""
    artifact = copy.deepcopy(trained.artifact)
    with torch.no_grad():
        for weight in artifact.model.tasks.parameters():
            weight.fill_(float("nan"))
    return Predictor(artifact, device="cpu", media=UPLOADS_ONLY)


def corrupted(predictor: Predictor, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    """Replace the outputs of rows without a note by a value."""
    task = predictor.model.tasks["event"]
    real = type(task).forward

    def forward(self: Any, fused: Any, streams: Any, prompts: Any) -> Any:
        output = real(self, fused, streams, prompts)
        absent = ~streams["note"].present if "note" in streams else torch.zeros(len(output), dtype=torch.bool)
        return output.masked_fill(absent[:, None], value)

    monkeypatch.setattr(type(task), "forward", forward)


@pytest.mark.parametrize("batch_invariant", [True, False])
def test_damaged_weights_are_reported(damaged: Predictor, batch_invariant: bool) -> None:
    with pytest.raises(AnswerError, match=WORDS) as error:
        damaged.predict([{"note": "the kettle"}], batch_invariant=batch_invariant)
    assert error.value.row == 1
    assert "weights are damaged" in (error.value.fix or "")


def test_error_names_the_row(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"note": "the kettle"}] * 70 + [{}] + [{"note": "the door"}] * 3
    for value in (float("nan"), float("inf")):
        with monkeypatch.context() as patch:
            corrupted(predictor, patch, value)
            with pytest.raises(AnswerError) as error:
                predictor.predict(rows)
            assert error.value.row == 71
            assert len(predictor.predict(rows[:70])) == 70


@pytest.mark.parametrize("merge", ["auto", "always", "never"])
def test_only_the_bad_request_is_refused(
    make_client: Any, predictor: Predictor, monkeypatch: pytest.MonkeyPatch, merge: str
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    client = make_client(merge=merge)
    corrupted(predictor, monkeypatch, float("nan"))
    good, bad = {"row": {"note": "the kettle"}}, {"rows": [{"note": "the kettle"}, {}]}
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(client.post, "/predict", json=bad if i % 4 == 1 else good) for i in range(24)]
    for i, one in enumerate(futures):
        answer = one.result()
        if i % 4 == 1:
            assert answer.status_code == 422, answer.text
            error = answer.json()["error"]
            assert error["problem"].startswith(WORDS)
            assert error["row"] == 2
        else:
            assert answer.status_code == 200, answer.text
            assert answer.json()["targets"]["event"]["value"]


def test_explanations_and_embeddings_are_checked_too(make_client: Any, damaged: Predictor) -> None:
    client = make_client({"house": damaged}, merge="never")
    for path in ("/predict", "/explain"):
        answer = client.post(path, json={"row": {"note": "the kettle"}})
        assert answer.status_code == 422, answer.text
        assert "is not a number" in answer.json()["error"]["problem"]
    assert (
        client.post("/embed", json={"row": {"note": "the kettle"}}).status_code == 200
    )  # the network before the head is intact


def test_command_line_reports_the_error(
    trained: Any, damaged: Predictor, tmp_path: Any, scenes: Any, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained.save(tmp_path / "run")
    real = Predictor.__init__

    def corrupt(self: Predictor, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **kwargs)
        with torch.no_grad():
            for weight in self.model.tasks.parameters():
                weight.fill_(float("nan"))

    monkeypatch.setattr(Predictor, "__init__", corrupt)
    code, _, error = cli("predict", run, scenes / "test.csv", "--out", tmp_path / "found.csv")
    assert code == 2
    assert WORDS in error
    assert "row 1" in error
    assert not (tmp_path / "found.csv").exists()


def test_finite() -> None:
    import numpy as np

    nan, inf = float("nan"), float("inf")
    for answer in (
        {"value": "a", "probabilities": {"a": 0.5}},
        {"value": None},
        {"value": [1.0, "nan"]},
        {"value": 10**400},
    ):
        assert finite(answer), answer
    for answer in (
        {"value": nan},
        {"value": "a", "probabilities": {"a": nan}},
        {"value": [[1.0, inf]]},
        {"value": (-inf,)},
    ):
        assert not finite(answer), answer
    assert not finite({"value": Attachment(np.array([0.0, nan], np.float32), "audio")})
    assert finite({"value": Attachment(np.zeros((2, 2), np.uint8), "mask")})
