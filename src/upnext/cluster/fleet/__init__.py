"""Many servers behind one endpoint: kept alive, counted, and asked in turn."""
