"""Tables to arrays: the only encoder, for training and for serving alike."""
