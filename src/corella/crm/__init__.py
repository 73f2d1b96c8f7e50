"""Conventional recommender models: neural ones, trees, their ensemble, with and without text."""
