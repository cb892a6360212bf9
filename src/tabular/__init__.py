"""Tables: a file such as CSV, Excel, JSON or Parquet with one example per row and columns to predict.

Batches are features (B, F) float32 and a target of T columns, (B, T) float32 for regression or int64 for
classes, (B,) of one column of classes.
"""
