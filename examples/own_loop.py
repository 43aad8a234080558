"""Encoders and a fusion as plain ``nn.Module`` in a custom training loop: no table, no recipe, no trainer."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.batch import Encoded
from sensorium.core.layout import Grid
from sensorium.encoders.convnet import Convnet
from sensorium.encoders.recurrent import Recurrent
from sensorium.fusions.gated import Gated

torch.manual_seed(0)
torch.set_num_threads(1)


def scenes(rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images [B, 1, 16, 16], sensors [B, 1, 32] and four classes; each modality separates two classes from two."""
    label = torch.randint(4, (rows,))
    picture, sensor = 0.5 * torch.randn(rows, 1, 16, 16), 0.5 * torch.randn(rows, 1, 32)
    stripes = (torch.arange(16) % 4 < 2).float()
    picture += torch.where((label % 2 == 0)[:, None, None, None], stripes[None, :], stripes[:, None])
    time = torch.arange(32) / 32 * 6.28
    sensor += torch.where((label < 2)[:, None, None], torch.sin(2 * time), torch.sin(6 * time))
    return picture, sensor, label


class Net(nn.Module):
    """Two encoders, a fusion and a head, combined by hand."""

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.see = Convnet(Grid(channels=1, size=(16, 16)), dim=dim, depth=2, width=8)
        self.feel = Recurrent(Grid(channels=1, size=(32,)), dim=dim)
        self.fuse = Gated(["picture", "sensor"], dim)
        self.answer = nn.Linear(dim, 4)

    def forward(self, picture: Tensor, sensor: Tensor, keep: dict[str, Tensor]) -> Tensor:
        # Every encoder returns the same struct: tokens [B, N, D], mask, pooled [B, D], present [B].
        parts: dict[str, Encoded] = {"picture": self.see(picture), "sensor": self.feel(sensor)}
        # ``hide`` makes a stream absent in some rows; the fusion ignores it there.
        fused = self.fuse({name: part.hide(keep[name]) for name, part in parts.items()})
        logits: Tensor = self.answer(fused.pooled)
        return logits


def seen(rows: int, picture: bool = True, sensor: bool = True) -> dict[str, Tensor]:
    return {"picture": torch.full((rows,), picture), "sensor": torch.full((rows,), sensor)}


net = Net()
optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
for _ in range(120):
    picture, sensor, label = scenes(64)
    lost = torch.rand(64)  # a third of the rows lack the image, a third the sensor
    keep = {"picture": lost > 0.33, "sensor": lost < 0.67}
    loss = F.cross_entropy(net(picture, sensor, keep), label)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()

net.eval()
with torch.inference_mode():
    picture, sensor, label = scenes(500)
    for name, keep in {
        "both": seen(500),
        "picture alone": seen(500, sensor=False),
        "sensor alone": seen(500, picture=False),
    }.items():
        right = (net(picture, sensor, keep).argmax(1) == label).float().mean()
        print(f"{name:<14} accuracy {right:.2f}")
