"""What a piece of work is worth."""
