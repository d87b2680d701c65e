"""A release answers over HTTP."""
