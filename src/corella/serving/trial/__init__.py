"""Experiments in service: arms, what was shown, what came of it, and what another policy would have earned."""
