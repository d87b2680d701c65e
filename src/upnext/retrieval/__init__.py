"""Stage 1: which few hundred items of the whole catalogue?"""
