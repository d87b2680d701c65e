"""The same work spread over the nodes of a Ray cluster."""
