"""A project of one's own, made from the tracked files of this one: python -m pipelines.new_project FOLDER."""
