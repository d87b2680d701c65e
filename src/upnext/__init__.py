"""Watch logs in, a served two-stage recommender out."""
