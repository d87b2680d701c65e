"""Stage 2: in which order?"""
