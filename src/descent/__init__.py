"""Descent: one point that slides down a surface, to see what optimizers and schedules do.

Source: `bowl`, the starting point (-7, 2) (sample), or a folder with a CSV of one point, columns x1,x2. Raw
files in data/raw/<task>/, start.npy in data/prepared/<task>/.

Batches: the starting point (1, 2), once an epoch: an epoch is one step of the optimizer.
Metrics: loss, the height of the surface; distance, from the point to its known minimum.
Expected test score ± two standard deviations over the seed, and time of training on one core:
    bowl, sample: loss 4.3e-05 ± 1e-06 in 1 s
"""
