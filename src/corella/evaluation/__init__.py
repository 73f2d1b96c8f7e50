"""Metrics, intervals, routing curves, and the report."""
