"""Tables: any CSV, Excel or JSON file with one row an example and one column to predict.

Source: `house_prices`, a synthetic table with the schema of Kaggle's House Prices (sample), or the real
one (download, folder). Raw files in data/raw/<task>/, arrays in data/prepared/<task>/.

Batches: features (B, F) float32; target (B, 1) float32 for regression, (B,) int64 for classes.
Metrics: RMSE, MAE, R2 and log-RMSE in the unit of the target column; accuracy, and macro precision,
recall and F1 for classes.
Expected: `house_prices` log-RMSE 0.133 on the sample, 0.134 to 0.137 on Kaggle's table, in about 3 s on
one core.
"""
