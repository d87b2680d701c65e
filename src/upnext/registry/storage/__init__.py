"""Releases and labels on storage that machines share: a bucket, a mounted directory."""
