"""The language model: backbone, prompts, and yes/no logits at answer positions."""
