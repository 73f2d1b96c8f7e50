"""Both models together: alignment, the three stages, calibration, routing, the trained system."""
