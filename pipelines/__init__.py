"""The verbs of the pipeline: each runs alone as `python -m pipelines.<verb>` and as a stage of dvc.yaml."""
