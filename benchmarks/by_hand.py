"""A typical hand-written training script: PIL, librosa, two small networks, concatenation, Adam.

``python -m benchmarks.by_hand TRAIN VALID TARGET IMAGE AUDIO EPOCHS SEED`` trains from raw files, validates after every
epoch and prints, as JSON, the CPU and wall seconds since the start and the accuracy at the end of each epoch. It does not
support missing cells.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from pathlib import Path

import librosa
import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

BATCH, RATE, WIDTH = 32, 1e-3, 64


class Net(nn.Module):
    """Three convolutions for each modality, and a head on the concatenated vectors."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.picture, self.sound = self.tower(channels), self.tower(1)
        self.head = nn.Sequential(nn.Linear(2 * WIDTH, WIDTH), nn.ReLU(), nn.Dropout(0.2), nn.Linear(WIDTH, classes))

    @staticmethod
    def tower(channels: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for before, after in ((channels, 16), (16, 32), (32, WIDTH)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, picture: Tensor, sound: Tensor) -> Tensor:
        answer: Tensor = self.head(torch.cat([self.picture(picture), self.sound(sound)], dim=1))
        return answer


def read(table: Path, names: tuple[str, str, str], classes: list[str]) -> TensorDataset:
    """Decode every row into memory: pictures scaled to [0, 1], one second of each recording as a log-mel spectrogram."""
    image, audio, target = names
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    classes += [] if classes else sorted({row[target] for row in rows})
    pictures, sounds = [], []
    for row in rows:
        pictures.append(np.atleast_3d(np.asarray(Image.open(table.parent / row[image]), np.float32)) / 255)
        samples, rate = soundfile.read(table.parent / row[audio], dtype="float32")
        samples = librosa.util.fix_length(samples, size=rate)
        mel = librosa.feature.melspectrogram(y=samples, sr=rate, n_fft=256, hop_length=128, n_mels=40)
        sounds.append(librosa.power_to_db(mel, ref=1.0) / 40 + 1)
    labels = torch.tensor([classes.index(row[target]) for row in rows])
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
    return TensorDataset(stacked, torch.from_numpy(np.stack(sounds))[:, None].float(), labels)


def main(train: str, valid: str, target: str, image: str, audio: str, epochs: int, seed: int) -> None:
    """Train the script and print one line of JSON: ``[[cpu, wall, accuracy], ...]``, an entry for each epoch."""
    torch.manual_seed(seed)
    began = time.process_time(), time.perf_counter()
    names = (image, audio, target)
    classes: list[str] = []
    rows = read(Path(train), names, classes)
    held = read(Path(valid), names, classes)
    net = Net(rows.tensors[0].shape[1], len(classes))
    optimiser = torch.optim.Adam(net.parameters(), lr=RATE)
    passed = []
    for _ in range(epochs):
        net.train()
        for picture, sound, label in DataLoader(rows, BATCH, shuffle=True):
            optimiser.zero_grad()
            F.cross_entropy(net(picture, sound), label).backward()
            optimiser.step()
        net.eval()
        with torch.no_grad():
            right = sum(
                int((net(picture, sound).argmax(dim=1) == label).sum()) for picture, sound, label in DataLoader(held, 128)
            )
        passed.append((time.process_time() - began[0], time.perf_counter() - began[1], right / len(held)))
    print(json.dumps(passed))


if __name__ == "__main__":
    main(*sys.argv[1:6], int(sys.argv[6]), int(sys.argv[7]))
