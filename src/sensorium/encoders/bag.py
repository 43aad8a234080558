"""Bag of words and word groups."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sensorium.core.batch import Encoded
from sensorium.core.contracts import Encoder
from sensorium.core.layout import Ids
from sensorium.core.registry import component


@component
class Bag(Encoder):
    """The words and short word groups of a text, each with a learned weight, regardless of where they stand.

    Args:
        dim: Width of the tokens and of the vector.
        ngrams: Longest word group; 1: words alone.
        buckets: Rows of the table that word groups are hashed into.
        drop: Share of words and groups dropped from the bag in training.
        dropout: Share of features dropped in training.
    """

    reads = (Ids,)

    def __init__(
        self,
        layout: Ids,
        *,
        dim: int = 128,
        ngrams: int = 2,
        buckets: int = 32768,
        drop: float = 0.2,
        dropout: float = 0.1,
        std: float = 0.1,
        width: int = 64,
        mode: str = "mean",
        pre: str = "none",
        weighted: bool = True,
        maxp: bool = False,
    ) -> None:
        super().__init__()
        self.dim, self.ngrams, self.buckets, self.share, self.mode = dim, ngrams, buckets, drop, mode
        self.words = nn.Embedding(layout.vocabulary, width, padding_idx=0)
        self.groups = nn.Embedding(buckets, width)
        nn.init.normal_(self.words.weight, std=std); nn.init.normal_(self.groups.weight, std=std)
        self.words_w = nn.Embedding(layout.vocabulary, 1); self.groups_w = nn.Embedding(buckets, 1)
        nn.init.zeros_(self.words_w.weight); nn.init.zeros_(self.groups_w.weight)
        self.weighted=weighted; self.maxp=maxp
        self.pre = nn.LayerNorm(width) if pre=="ln" else nn.Identity()
        self.out = nn.Linear(width*(2 if maxp else 1), dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        real = data != 0 if mask is None else mask
        e=[self.words(data)]; w=[self.words_w(data)]; m=[real]
        h=data
        for n in range(1,self.ngrams):
            h = (h[:, :-1] * 1000003 + data[:, n:]) 
            k = (h ^ (h >> 15)) % self.buckets
            e.append(self.groups(k)); w.append(self.groups_w(k)); m.append(real[:, n:])
        e=torch.cat(e,1); w=torch.cat(w,1).squeeze(-1); m=torch.cat(m,1)
        keep=m
        if self.training and self.share: keep = m & (torch.rand(m.shape)>self.share)
        w = w.exp() if self.weighted else torch.ones_like(w)
        w = w*keep
        s=(e*w.unsqueeze(-1)).sum(1)
        if self.mode=="mean": s=s/w.sum(1,keepdim=True).clamp(min=1e-6)
        elif self.mode=="sqrt": s=s/w.sum(1,keepdim=True).clamp(min=1e-6)**.5
        elif self.mode=="l2": s=s/(w*w).sum(1,keepdim=True).clamp(min=1e-6)**.5
        if self.maxp: s=torch.cat([s,(e*w.unsqueeze(-1)).masked_fill(~keep.unsqueeze(-1),-1e9).amax(1).clamp(min=-10)],1)
        p=self.out(self.drop(self.pre(s)))
        return Encoded(p.unsqueeze(1), real[:, :1] | True, p, data.new_ones(data.shape[0]).bool())
