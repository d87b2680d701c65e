"""A small video platform whose true expected watch times are known."""
