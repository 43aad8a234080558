"""Length buckets: every row once an epoch, less padding, and the same order in every process."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorium.data.encoded_rows import Block, Ragged, Rows
from sensorium.data.length_buckets import bucketed, cost, padding
from sensorium.data.loader import Loader


def rows(lengths: list[int], absent: tuple[int, ...] = ()) -> Rows:
    """A text stream of these lengths beside a dense stream."""
    count = len(lengths)
    present = np.array([i not in absent for i in range(count)])
    start = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    words = Ragged(np.ones(start[-1], np.int32), start, present)
    table = Block(np.arange(count, dtype=np.float32)[:, None], np.ones(count, np.bool_))
    return Rows({"text": words, "table": table}, {}, np.ones(count, np.float32), [])


def lengths(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(1, 200, count).tolist()


def loader(held: Rows, size: int, bucket: int = 8, **options: int) -> Loader:
    return Loader(held, size, bucket=bucket, costs=cost(held.lengths(), {"text": 1.0}), **{"seed": 3, **options})


@given(st.integers(2, 300), st.integers(1, 20), st.integers(2, 60), st.integers(0, 3))
def test_every_row_once_and_same_batch_sizes(count: int, size: int, window: int, epoch: int) -> None:
    result = loader(rows(lengths(count)), size, window, epoch=epoch)
    batches = result.batches()
    assert [len(b) for b in batches] == [len(b) for b in Loader(result.rows, size, seed=3, epoch=epoch).batches()]
    assert sorted(i for batch in batches for i in batch.tolist()) == list(range(count))
    assert len(batches) == len(result)


def test_order_is_a_function_of_seed_and_epoch() -> None:
    held = rows(lengths(500))
    first = [b.tolist() for b in loader(held, 16).batches()]
    assert first == [b.tolist() for b in loader(held, 16).batches()]
    assert first != [b.tolist() for b in loader(held, 16, epoch=1).batches()]
    assert first != [b.tolist() for b in loader(held, 16, seed=4).batches()]


def test_less_padding_and_random_order_of_batches() -> None:
    held = rows(lengths(2000))
    results = {}
    for window in (0, 4, 16, 64):
        results[window] = padding(held.lengths(), {"text": 1.0}, loader(held, 32, window).batches()).share
    assert results[0] > 0.45, "the longest of 32 lengths from 1 to 200 is nearly 200, and the mean 100"
    assert results[0] > results[4] > results[16] > results[64]
    assert results[64] < 0.04
    longest = [max(held.lengths()["text"][b]) for b in loader(held, 32, 64).batches()]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.5


def test_rows_keep_their_drawn_order_within_a_batch() -> None:
    """So that each of several processes gets its share of the long ones."""
    held, order = rows(lengths(400)), np.random.default_rng(0).permutation(400)
    costs = cost(held.lengths(), {"text": 1.0})
    assert costs is not None
    place = np.argsort(order)
    for batch in bucketed(order, 20, 10, costs, (0, 0)).reshape(-1, 20):
        assert (np.diff(place[batch]) > 0).all()


@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_take_parts_of_the_same_batch(ranks: int) -> None:
    held = rows(lengths(301))
    index = np.arange(301)
    parts = [loader(held, 8, rank=r, ranks=ranks) for r in range(ranks)]
    one = loader(held, 8 * ranks).batches()
    for step, whole in enumerate(one):
        met = np.concatenate([part._part(part.batches()[step]) for part in parts])
        assert met.tolist() == whole.tolist()
    assert sorted(np.concatenate(one).tolist()) == index.tolist()


def test_resumes_within_an_epoch() -> None:
    held = rows(lengths(200))
    whole = [batch.inputs["table"].data.flatten().tolist() for batch in loader(held, 16)]
    begun, again = loader(held, 16), loader(held, 16)
    for _, _ in zip(range(5), begun, strict=False):
        pass
    again.load_state_dict(begun.state_dict())
    assert [batch.inputs["table"].data.flatten().tolist() for batch in again] == whole[begun.done :]


def test_cost_of_rows() -> None:
    held = {"text": np.array([2, 4, 6]), "sound": np.array([100, 300, 0]), "even": np.array([5, 5, 5])}
    results = cost(held, {"text": 1.0, "sound": 0.01, "even": 1.0})
    assert results is not None
    np.testing.assert_allclose(results, [3.0, 7.0, 6.0])
    assert cost(held, {"text": 0.0, "sound": 0.0, "even": 1.0}) is None, "nothing is saved where lengths do not count"
    assert cost({}, {}) is None


def test_padding_share_matches_the_batch() -> None:
    held = rows([3, 1, 4, 1, 5, 9, 2, 6], absent=(5,))
    batches = Loader(held, 4).batches()
    results = padding(held.lengths(), {"text": 0.5}, batches)
    shown = [held.batch(index).inputs["text"] for index in batches]
    real = sum(int(f.mask[f.present].sum()) for f in shown if f.mask is not None)
    cells = 4 * 4 + 3 * 6  # the row that lacks the text, the longest, is not encoded
    assert results.share == pytest.approx(1 - real / cells)
    assert results.streams == {"text": pytest.approx(results.share)}
    nothing = padding({"text": np.zeros(3, np.int64)}, {"text": 1.0}, [np.arange(3)])
    assert (nothing.share, nothing.streams) == (0.0, {})


def test_selected_rows_keep_their_lengths() -> None:
    held = rows([3, 1, 4, 1, 5], absent=(2,))
    assert held.lengths()["text"].tolist() == [3, 1, 0, 1, 5]
    assert held.take(np.array([4, 2, 0])).lengths()["text"].tolist() == [5, 0, 3]
