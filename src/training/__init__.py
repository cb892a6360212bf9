"""What surrounds a Lightning Trainer: loaders, checkpoints, exactness, callbacks, optimizers, tracking."""
