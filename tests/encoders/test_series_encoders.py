"""``tcn`` against the convolutions of its paper, ``statistics`` against its features, and both for what they are for."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from sensorium.core.errors import ConfigError
from sensorium.core.layout import Grid
from sensorium.encoders.statistics import Statistics
from sensorium.encoders.tcn import Tcn
from sensorium.signal.series_statistics import NAMES, summary


def test_a_block_is_the_one_of_the_paper() -> None:
    """Figure 1 (b): dilated causal convolution with weight normalisation, ReLU, twice, and a 1 × 1 shortcut."""
    torch.manual_seed(0)
    encoder = Tcn(Grid(3, (30,)), dim=8, depth=3, width=6, dropout=0.0).eval().double()
    data = torch.randn(2, 3, 30, dtype=torch.float64)
    x = data
    for i, block in enumerate(encoder.blocks):
        y = x
        for conv in (block.first, block.second):
            g, v = conv.parametrizations.weight.original0, conv.parametrizations.weight.original1
            weight = g * v / v.flatten(1).norm(dim=1)[:, None, None]
            out = torch.zeros(2, 6, 30, dtype=torch.float64)
            for t in range(30):
                for k in range(3):
                    at = t - (2 - k) * 2**i
                    if at >= 0:
                        out[..., t] += y[..., at] @ weight[..., k].T
            y = F.relu(out + conv.bias[:, None])
        x = F.relu(y + (x if x.shape[1] == 6 else block.shortcut(x)))
    torch.testing.assert_close(encoder(data).tokens, encoder.token(x.transpose(1, 2)))


@pytest.mark.parametrize("depth", [1, 3])
def test_a_causal_step_sees_so_far_back_and_nothing_ahead(depth: int) -> None:
    encoder = Tcn(Grid(1, (64,)), dim=4, depth=depth, width=8, pool="last").eval()
    reach = 4 * (2**depth - 1)  # 2 (kernel - 1) (1 + 2 + 4 …), equation after (2) of the paper for two convolutions a block
    data = torch.randn(1, 1, 64, requires_grad=True)
    encoder(data).tokens[0, 40].sum().backward()
    assert data.grad is not None
    seen = data.grad[0, 0].nonzero()[:, 0]
    assert int(seen.max()) == 40
    assert int(seen.min()) >= 40 - reach
    both = Tcn(Grid(1, (64,)), dim=4, depth=depth, width=8, causal=False).eval()
    data.grad = None
    both(data).tokens[0, 32].sum().backward()
    ahead = data.grad[0, 0].nonzero()[:, 0]
    assert int(ahead.max()) > 32


def test_the_last_step_is_each_rows_own() -> None:
    encoder = Tcn(Grid(2, (20,)), dim=4, pool="last").eval()
    data, mask = torch.randn(3, 2, 20), torch.arange(20) < torch.tensor([[20], [7], [1]])
    encoded = encoder(data, mask)
    for row, last in enumerate((19, 6, 0)):
        torch.testing.assert_close(encoded.pooled[row], encoded.tokens[row, last])


def test_statistics_are_the_features() -> None:
    encoder = Statistics(Grid(3, (90,)), dim=8).eval()
    data, mask = 0.1 * torch.randn(2, 3, 90), torch.arange(90) < torch.tensor([[90], [70]])
    features = summary(data, mask)
    near = torch.where(features.abs() <= 1, features, features.sign() * (1 + features.abs().log()))
    torch.testing.assert_close(encoder(data, mask).pooled, encoder.vector(near), rtol=1e-4, atol=1e-5)
    one = near[:, : len(NAMES)] + encoder.place[0]
    torch.testing.assert_close(encoder(data, mask).tokens[:, 0], encoder.token(one), rtol=1e-4, atol=1e-5)
    for layout in (Grid(1, (9, 9)), Grid(3, (4, 8, 8))):
        with pytest.raises(ConfigError, match="one axis"):
            Statistics(layout)


def test_wild_series_stay_finite() -> None:
    data = torch.zeros(3, 2, 50)
    data[0, 0, 7] = 100.0
    data[1] = 100.0
    for encoder in (Statistics(Grid(2, (50,))), Tcn(Grid(2, (50,)))):
        for kind in (torch.float32, torch.bfloat16):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind == torch.bfloat16):
                assert encoder(data).pooled.isfinite().all()


def learnt(encoder: torch.nn.Module, data: torch.Tensor, answer: torch.Tensor) -> float:
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 2)
    best = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=0.005)
    for _ in range(60):
        best.zero_grad()
        F.cross_entropy(head(encoder(data[:64]).pooled), answer[:64]).backward()
        best.step()
    with torch.no_grad():
        return float((head(encoder.eval()(data[64:]).pooled).argmax(dim=1) == answer[64:]).float().mean())


def test_each_learns_what_it_is_for() -> None:
    draw = torch.Generator().manual_seed(0)
    answer = torch.randint(0, 2, (128,), generator=draw)
    hiss = torch.randn(128, 2, 60, generator=draw)
    # One: do the two channels go together? No channel alone tells.
    together = hiss.clone()
    together[:, 1] = torch.where(answer[:, None] == 1, hiss[:, 0], -hiss[:, 0]) + 0.3 * hiss[:, 1]
    torch.manual_seed(1)
    assert learnt(Statistics(Grid(2, (60,)), dim=16, width=32), together, answer) > 0.9
    # Other: which of two bumps came first?
    bumps = 0.3 * hiss[:, :1]
    bumps[:, 0, 15] += torch.where(answer == 1, 4.0, -4.0)
    bumps[:, 0, 22] += torch.where(answer == 1, -4.0, 4.0)
    torch.manual_seed(1)
    assert learnt(Tcn(Grid(1, (60,)), dim=16, width=16, depth=4, dropout=0.0), bumps, answer) > 0.9
