"""Tables: a CSV, Excel or JSON file with one example per row and one column to predict.

Batches are features (B, F) float32 and a target, (B, 1) float32 for regression or (B,) int64 for classes.
"""
