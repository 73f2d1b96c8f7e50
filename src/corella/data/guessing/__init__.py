"""What somebody's files may mean: which table is which, and what their columns hold."""
