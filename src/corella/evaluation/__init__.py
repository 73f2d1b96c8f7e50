"""Figures: metrics, curves, slates, groups, prices of the rungs."""
