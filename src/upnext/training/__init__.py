"""How a stage learns: epochs, early stopping, checkpoints, curves. Knows no data and no network."""
