"""A trained model as ONNX and torch.export programs: python -m pipelines.export TASK."""
