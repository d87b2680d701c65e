"""What a server tells whoever looks into it: its releases from within, and its registry."""
