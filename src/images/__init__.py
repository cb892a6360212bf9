"""Images: idx files, CSV files of pixels, or a folder of class folders with PNG or JPEG files.

Source: `fashion_mnist`, drawn garments in the files of Fashion-MNIST (sample), or the real ones (download,
folder); `digits`, scikit-learn's handwritten digits in the form of Kaggle's Digit Recognizer (sample), or
that one (folder). Raw files in data/raw/<task>/, arrays in data/prepared/<task>/.

Batches: images (B, C, H, W) uint8, scaled inside the model; target (B,) int64.
Metrics: accuracy, and precision, recall and F1 as means over the classes.
Expected: `fashion_mnist` with LeNet accuracy 0.937 on the sample in 10 s, 0.9075 on the real images in 3 min;
with configs/fashion_mnist_convnet.yaml 0.94; `digits` 0.965 in 4 s.
"""
