"""A trained model as a folder: write it, open it, predict with it."""
