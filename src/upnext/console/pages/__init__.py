"""A file a page: what it asks of the server, and the facts that its template shows."""
