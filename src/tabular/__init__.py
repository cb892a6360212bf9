"""Tables: any CSV, Excel or JSON file with one row an example and one column to predict.

Source: `house_prices`, a synthetic table with the schema of Kaggle's House Prices (sample), or the real
one (download, folder). Raw files in data/raw/<task>/, arrays in data/prepared/<task>/.

Batches: features (B, F) float32; target (B, 1) float32 for regression, (B,) int64 for classes.
Metrics: RMSE, MAE, R2 and log-RMSE in the unit of the target column; accuracy, and macro precision,
recall and F1 for classes.
Expected test score ± two standard deviations over the seed, and time of training on one core:
    house_prices, sample: log_rmse 0.133 ± 0.008 in 3 s
    house_prices, download: log_rmse 0.137 ± 0.0034 in 3 s
    line, sample: rmse 0.0851 ± 0.0002 in 6 s
    polynomial, sample: rmse 0.11 ± 0.03 in 1 s
    spiral, sample: accuracy 0.9967 ± 0.004 in 2 s
    perceptron, sample: accuracy 1 ± 0 in 1 s
    autoregression, sample: rmse 0.234 ± 0.005 in 1 s
"""
