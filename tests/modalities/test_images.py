"""Several pictures, or several texts, in one cell."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sensorium.core.cell_content import content
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.modality import Blob
from sensorium.data.files.media_access import SEVERAL, UPLOADS_ONLY, LocalFiles, parts
from sensorium.data.store.content_digest import digest
from sensorium.modalities.image import Image
from sensorium.modalities.images import Images
from sensorium.modalities.tags import Tags
from sensorium.modalities.text import BREAK, Text


def png(level: int, size: tuple[int, int] = (20, 16)) -> bytes:
    from PIL import Image as Pillow

    file = io.BytesIO()
    Pillow.fromarray(np.full(size, level, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(png(60 * i))
    (tmp_path / "a;b.png").write_bytes(png(9))
    (tmp_path / "bad.png").write_bytes(png(9)[:40])
    return tmp_path


def read(cell: Any, media: Any) -> list[int]:
    modality = Images()
    opened = content(modality, cell, media, 3, "photos")
    modality.fit([opened])
    return [round(float(picture.mean())) for picture in modality.encode(opened)]


def test_every_way_to_write_them(folder: Path) -> None:
    media = LocalFiles(folder)
    arrays = [np.full((20, 16), 60 * i, np.uint8) for i in (1, 2)]
    for cell in (
        "1.png;2.png",
        "1.png | 2.png",
        "1.png\n2.png\n",
        '["1.png", "2.png"]',
        ["1.png", "2.png"],
        ("1.png", None, "2.png"),
        np.array(["1.png", "2.png"], object),
        [png(60), {"bytes": png(120), "path": "x.png"}],
        arrays,
        np.stack(arrays)[..., None],
    ):
        assert read(cell, media) == [60, 120], cell
    assert read("3.png", media) == [180]
    assert read(png(60), UPLOADS_ONLY) == [60]


def test_bad_cells_are_refused_in_words(folder: Path) -> None:
    media = LocalFiles(folder, max_bytes=200)
    for cell, problem in (
        ("1.png;no.png", "no such file"),
        (";;", "0 files in one cell"),
        ([], "0 files in one cell"),
        (["1.png"] * (SEVERAL + 1), "65 files in one cell"),
        ("1.png;bad.png", "bad.png: not a picture"),
        (["1.png"] * 10, "limit"),
        ([["1.png"]], "not a picture"),
        ("1.png;../x.png", "leads out"),
    ):
        with pytest.raises(CellError, match=problem):
            read(cell, media)


def test_a_network_names_no_files(folder: Path) -> None:
    for cell in ("1.png;2.png", ["1.png"], '["1.png"]', [{"path": "1.png"}], [b"x", "1.png"]):
        with pytest.raises(CellError, match="may not be named"):
            UPLOADS_ONLY.open_several(cell)


def test_parts() -> None:
    assert parts("a.png; b.png;") == ["a.png", "b.png"]
    assert parts("a, b.png") == ["a, b.png"]
    assert parts(3) == [3]


def test_batches_are_masked() -> None:
    modality = Images(pictures=3, channels="rgb")
    cells = [[Blob(png(50 * k), "a")] * k for k in (1, 2, 5)]
    modality.fit(cells)
    stored = modality.collate([modality.encode(cell) for cell in cells] + [None])
    for generator in (None, torch.Generator().manual_seed(0)):
        field = modality.prepare(stored, generator)
        assert field.mask is not None
        assert field.mask.sum(1).tolist() == [1, 2, 3, 0]
        assert field.data.shape == (4, 3, 3, 20, 20)
        assert not field.data[0, :, 1:].any()
        assert not field.data[3].any()


def test_digests_tell_contents_apart() -> None:
    one, other = Blob(png(1), "a"), Blob(png(2), "b")
    results = {digest(x) for x in ([one], [other], [one, other], [other, one], one, [np.zeros(3)], [np.zeros(4)])}
    assert len(results) == 7
    assert digest([one, other]) == digest([Blob(one.data, "c"), other])


def test_what_is_guessed() -> None:
    for cells in (["a.png;b.png", "c.png"], [["a.jpg", "b.jpg"]], ['["a.png", "b.png"]'], ["a.png|b.png"]):
        assert Images.sniff(cells, "x").score > max(Image.sniff(cells, "x").score, Tags.sniff(cells, "x").score)
    for cells in (["a.png", "b.png"], ["a;b.png"], ["a;b", "b;c"], [3, None], ["[1, 2]"], [["a.png", 3]]):
        assert Images.sniff(cells, "x").score == 0


@pytest.mark.parametrize("options", [{"pictures": 0}, {"pictures": 65}, {"size": 1}])
def test_options_are_checked(options: Any) -> None:
    with pytest.raises(ConfigError, match="images"):
        Images(**options)


TEXTS = [["the kettle sings a song", "it is warm"], ["the cat is asleep now", "the rain falls down", "it is cold"]] * 4


def test_several_texts_are_one_with_a_break_between() -> None:
    modality = Text()
    modality.fit(TEXTS)
    whole = modality.encode(TEXTS[0])
    assert np.array_equal(whole, modality.encode(BREAK.join(TEXTS[0])))
    assert np.array_equal(whole, modality.encode(json.dumps(TEXTS[0])))
    first = modality.encode(TEXTS[0][0])
    assert np.array_equal(whole[: len(first)], first)
    assert len(whole) > len(first) + len(modality.encode(TEXTS[0][1]))  # the break is a token of its own
    with pytest.raises(CellError):
        modality.encode([["deep"]])


def test_lists_of_sentences_are_text_and_lists_of_words_are_tags() -> None:
    for cells in (TEXTS, [json.dumps(cell) for cell in TEXTS]):
        assert Text.sniff(cells, "x").score > Tags.sniff(cells, "x").score
    words = [["sun", "sea"], ["sea", "sand"], ["sun", "sand", "sea"]] * 5
    for cells in (words, [json.dumps(cell) for cell in words]):
        assert Text.sniff(cells, "x").score < Tags.sniff(cells, "x").score


def test_what_is_held_to_learn_from_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from sensorium.core.schema import Schema
    from sensorium.data.files.media_access import weight_of
    from sensorium.data.tables.table import Table
    from sensorium.training import prepare

    assert weight_of([Blob(b"abc", "a"), np.zeros(2)]) == 19
    seen: list[int] = []
    monkeypatch.setattr(prepare, "SAMPLE_BYTES", 1000)
    monkeypatch.setattr(Image, "fit", lambda self, cells: seen.append(len(cells)))
    prepare.fit_modalities(Schema.declare({"photo": "image"}), Table.read({"photo": [bytes(400)] * 9}), UPLOADS_ONLY)
    assert seen == [3]
