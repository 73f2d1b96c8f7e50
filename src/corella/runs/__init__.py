"""A run is a folder: train, evaluate, score."""
