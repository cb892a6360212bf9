"""Descent: one point that slides down a surface, to see what optimizers and schedules do.

Source: `bowl`, the starting point (-7, 2) (sample), or a folder with a CSV of one point, columns x1,x2. Raw
files in data/raw/<task>/, start.npy in data/prepared/<task>/.

Batches: the starting point (1, 2), once an epoch: an epoch is one step of the optimizer.
Metrics: loss, the height of the surface; distance, from the point to its known minimum.
Expected: `bowl` 500 steps of SGD with momentum 0.9: test/loss 0.00004 in 1 s, where the start has 6.45.
"""
