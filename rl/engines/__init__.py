"""What turns token ids into sampled token ids with log-probabilities."""
