"""What is measured of a release: each thing by events that can be worked on apart, in any place."""
