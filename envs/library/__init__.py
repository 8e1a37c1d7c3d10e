"""The environments that come with Quintain."""
