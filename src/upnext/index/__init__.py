"""Item vectors in, the nearest candidates of a user vector out."""
