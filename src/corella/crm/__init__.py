"""Conventional recommender models: feature vocabularies, DCNv2 and its peers, their training."""
