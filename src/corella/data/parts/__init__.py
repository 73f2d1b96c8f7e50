"""Preparing a log in parts on disk, where memory is bounded: the same dataset, to the last bit."""
