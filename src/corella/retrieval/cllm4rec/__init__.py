"""CLLM4Rec (arXiv 2311.01343): a language model with user and item tokens that retrieves items in one forward pass."""
