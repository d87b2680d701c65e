"""Raw arrays → what ranking's network is told of a request and its candidates: features, scaled.

They depend on no weight that training moves, so they are worked out beside the network, by compiled
loops that training and serving share.
"""
