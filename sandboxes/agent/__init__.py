"""What runs inside a sandbox: standard library only, shipped to the interpreter there as source text."""
