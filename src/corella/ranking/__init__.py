"""The fitted ranking: how it is made, what it predicts, its files, its views."""
