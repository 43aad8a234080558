"""The on-disk cache of decoded cells and computed arrays."""
