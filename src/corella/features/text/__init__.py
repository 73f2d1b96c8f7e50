"""Texts as features: an encoder reads every item once, and what is near in text speaks for what is near in taste."""
