"""One training day: logs → clean tables → both stages → index → published release."""
