"""Descent: a point that moves down a surface, to compare optimizers and schedules; an epoch is one step."""
