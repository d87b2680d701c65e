"""What a release has learned, in files and numbers that other tools read; no torch here."""
