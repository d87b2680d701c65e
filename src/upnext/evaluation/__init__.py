"""How good is it, and compared with what? Knows arrays and tables, no model."""
