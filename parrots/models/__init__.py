"""Transformers, dense and sparse: what they are, what they count, how they compute."""
