"""What a training shows and saves while it runs."""
