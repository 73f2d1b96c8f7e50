"""Joint training of both models: stages 2 and 3, alignment, soft tokens, distillation, residual training."""
