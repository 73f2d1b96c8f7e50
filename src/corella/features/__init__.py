"""What is known of a row from before it: counts, ratings, neighbours, texts. Arrays in, arrays out."""
