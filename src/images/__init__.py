"""Images: idx files, CSV files of pixels, or pictures with a folder per class or a table of labels.

Batches are images (B, C, H, W) uint8, which the model scales, and a target: (B,) int64 classes, (B, K) of
several labels, or (B,) float32 numbers.
"""
