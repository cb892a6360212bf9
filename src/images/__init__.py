"""Images: idx files, CSV files of pixels, or folders of PNG or JPEG files, one folder per class.

Batches are images (B, C, H, W) uint8, which the model scales, and a target (B,) int64.
"""
