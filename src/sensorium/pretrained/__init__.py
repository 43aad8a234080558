"""Pretrained checkpoints from a local folder: architectures, weights, tokenisers and spectrograms, all read as data."""
