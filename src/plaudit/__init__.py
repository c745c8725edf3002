"""Plaudit: reinforcement learning from human feedback, from judgments to a better model."""

__version__ = "0.1.0"
