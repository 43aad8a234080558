"""Simulated data of applications: its files are as documented and reproducible."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import sensorium as sm
from sensorium.core.errors import ConfigError, DataError
from sensorium.core.modality import Blob
from sensorium.data import synthetic_dialogues, synthetic_lips, synthetic_posts, synthetic_questions
from sensorium.data.previous_rows import with_previous
from sensorium.data.synthetic_captions import as_sentence
from sensorium.data.synthetic_voice import FRAMES_PER_SECOND, MOUTHS, PHONES, PRONUNCIATIONS, lips, pronounced, spoken
from sensorium.modalities.video import Video

MAKERS = [synthetic_dialogues.make, synthetic_lips.make, synthetic_posts.make, synthetic_questions.make]


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__module__.rpartition("_")[2])
def test_tables_are_reproducible_and_their_media_exist(make: Callable[..., dict[str, Path]], tmp_path: Path) -> None:
    first, again = make(tmp_path / "a", rows=12, test=0.5), make(tmp_path / "b", rows=12, test=0.5)
    for name in ("train", "test"):
        assert first[name].read_bytes() == again[name].read_bytes()
        rows = list(sm.Table.read(first[name]).rows())
        assert len(rows) == 6
        cells = [cell for row in rows for cell in row.values() if cell and "/" in cell]
        assert cells
        for cell in cells:
            content = (tmp_path / "a" / cell).read_bytes()
            assert content
            assert content == (tmp_path / "b" / cell).read_bytes()
    with pytest.raises(ConfigError, match="not valid counts"):
        make(tmp_path / "c", rows=0)


def _films(*words: str) -> list[NDArray[np.float64]]:
    """Films of the lips that say ``words``, all at the same pace, in the same light."""
    films = []
    for word in words:
        (phones,) = pronounced(word)
        times = [(0.1 + 0.1 * i, 0.2 + 0.1 * i, phone) for i, phone in enumerate(phones)]
        films.append(lips(times, 0.6, np.random.default_rng(1)).astype(float))
    return films


@pytest.mark.parametrize("words", synthetic_lips.ALIKE)
def test_words_that_look_alike_sound_different(words: tuple[str, ...]) -> None:
    alike, other = _films(*words), _films("set")[0]
    assert alike[0].shape == (round(0.6 * FRAMES_PER_SECOND), 16, 16)
    for film in alike[1:]:
        np.testing.assert_array_equal(film, alike[0])
    assert np.abs(alike[0] - other).mean() > 3
    spectra = []
    for word in words:
        sound = spoken(word, np.random.default_rng(0))[0]
        powers = [np.abs(np.fft.rfft(sound[i * 400 : (i + 1) * 400], 800))[:400] for i in range(5)]
        spectra.append(np.log(np.stack(powers).reshape(5, -1, 10).mean(axis=2) + 1e-2))
    assert all(np.abs(a - b).max() > 1.5 for a, b in combinations(spectra, 2))


def test_firm_shapes_of_the_mouth_withstand_their_neighbours() -> None:
    """Lips close for an m between open vowels; for a t they look like the vowels."""
    heights = []
    for middle in ("M", "T"):
        times = [(0.1, 0.2, "AA"), (0.2, 0.3, middle), (0.3, 0.4, "AA")]
        film = lips(times, 0.6, np.random.default_rng(0)).astype(float)
        heights.append([int((picture < 80).sum()) for picture in film])
    open_mouth = max(heights[1])
    assert heights[0][6] < 0.3 * open_mouth
    assert heights[1][6] > 0.6 * open_mouth


def test_words_without_a_pronunciation_are_refused() -> None:
    with pytest.raises(ConfigError, match="no pronunciation of 'grey'"):
        spoken("the grey one", np.random.default_rng(0))
    assert pronounced("Is it?") == [["IH", "Z"], ["IH", "T"]]
    known = {phone for words in PRONUNCIATIONS.values() for phone in words.split()}
    assert known <= PHONES.keys()
    assert {phone.mouth for phone in PHONES.values()} <= MOUTHS.keys()


def test_films_are_opened_as_videos_of_25_pictures_a_second(tmp_path: Path) -> None:
    pytest.importorskip("av")
    film = lips([(0.2, 0.4, "AA"), (0.6, 0.8, "B")], 1.0, np.random.default_rng(0))
    synthetic_lips.write_film(tmp_path / "film.gif", film)
    video = Video(rate=25, frames=64, channels="grey")
    cell = Blob((tmp_path / "film.gif").read_bytes(), "film.gif")
    video.fit([cell])
    opened = video.encode(cell)
    assert opened.shape == (len(film), 1, 16, 16)
    assert np.abs(opened[:, 0].astype(float) - film).mean() < 3


def test_dialogues_are_not_split_and_have_previous_cells(tmp_path: Path) -> None:
    paths = synthetic_dialogues.make(tmp_path, rows=30, test=0.4)
    train, test = (sm.Table.read(paths[name]) for name in ("train", "test"))
    assert not set(train.column("dialogue")) & set(test.column("dialogue"))
    rows = list(test.rows())
    assert not rows[0]["words_before"]
    assert rows[2]["words_before"] == f"{rows[0]['words']} | {rows[1]['words']}"
    assert rows[3]["face_before"] == rows[2]["face"]
    assert not rows[6]["voice_before"]


def test_previous_cells_follow_the_order_and_stay_in_their_group() -> None:
    table = sm.Table(
        {"talk": ["a", "b", "a", "a"], "turn": [3, 1, 1, 2], "text": ["third", "other", "first", None], "x": [3, 0, 1, 2]}
    )
    result = with_previous(table, "talk", texts=["text"], latest=["x"], order="turn")
    assert result.column("text_before") == ["first", None, None, "first"]
    assert result.column("x_before") == [2, None, None, 1]
    assert with_previous(table, "talk", texts=["text"], turns=1, order="turn").column("text_before")[0] is None
    with pytest.raises(DataError, match="no such column"):
        with_previous(table, "talks")
    with pytest.raises(DataError, match="is not a number to order by"):
        with_previous(table, "talk", order="text")
    with pytest.raises(ConfigError, match="exists already"):
        with_previous(result, "talk", latest=["x"])


def test_irony_needs_both_streams(tmp_path: Path) -> None:
    assert [synthetic_posts.sentiment("praise", glad) for glad in (True, False)] == ["positive", "negative"]
    assert [synthetic_posts.sentiment("question", glad) for glad in (True, False)] == ["neutral", "neutral"]
    assert [synthetic_posts.sentiment("complaint", glad) for glad in (True, False)] == ["negative", "negative"]


@pytest.mark.parametrize("seed", range(6))
def test_films_move_in_the_direction_of_the_answer(seed: int) -> None:
    film, question, answer = synthetic_questions.moving(np.random.default_rng(seed))
    if "way" not in question:
        assert question == "what colour is it?"
        return
    ground = np.median(film[0].reshape(-1, 3).astype(float), axis=0)
    centres = []
    for picture in (film[0], film[-1]):
        inside = np.abs(picture.astype(float) - ground).max(axis=2) > 40
        centres.append([places.mean() for places in inside.nonzero()])
    down, right = np.subtract(centres[1], centres[0])
    way = {"left": -right, "right": right, "up": -down, "down": down}[answer]
    assert way > 3


def test_questions_are_spoken_by_another_voice(tmp_path: Path) -> None:
    paths = synthetic_questions.make(tmp_path, rows=3, test=0.0, speak=lambda text, i: f"{i} {text}".encode())
    for i, row in enumerate(sm.Table.read(paths["train"]).rows()):
        assert (tmp_path / str(row["spoken"])).read_text() == f"{i} {row['question']}"


def test_captions_become_full_sentences() -> None:
    assert as_sentence("a red disc") == "There is a red disc on its own."
    assert as_sentence("a red disc to the left of a blue square") == "A red disc is to the left of a blue square."
