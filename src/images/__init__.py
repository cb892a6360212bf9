"""Images: idx files, CSV files of pixels, or a folder of class folders with PNG or JPEG files.

Source: `fashion_mnist`, drawn garments in the files of Fashion-MNIST (sample), or the real ones (download,
folder); `digits`, scikit-learn's handwritten digits in the form of Kaggle's Digit Recognizer (sample), or
that one (folder). Raw files in data/raw/<task>/, arrays in data/prepared/<task>/.

Batches: images (B, C, H, W) uint8, scaled inside the model; target (B,) int64.
Metrics: accuracy, and precision, recall and F1 as means over the classes.
Expected test score ± two standard deviations over the seed, and time of training on one core:
    fashion_mnist, sample: accuracy 0.937 ± 0.018 in 10 s
    fashion_mnist, download: accuracy 0.9076 ± 0.0006 in 1.5 min
    digits, sample: accuracy 0.9648 ± 0.005 in 4 s
with configs/fashion_mnist_convnet.yaml 0.94 on the downloaded images.
"""
