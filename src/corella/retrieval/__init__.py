"""Which items a user may like, out of all: a closed form that reads texts, CLLM4Rec beside it, and what fuses them."""
