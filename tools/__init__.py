"""Chat messages, tools the model may call, and the formats in which it calls them."""
