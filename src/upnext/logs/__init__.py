"""Raw events in, clean tables out."""
