"""What whoever looks into a release is told, and the arrays that are made for it on first use."""
