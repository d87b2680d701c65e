"""What happened since the logs of a release ended: the live store, and the way back to logs."""
