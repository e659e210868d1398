"""Ways to come to labels: Describe-and-Dissect and its variants, or labels from elsewhere."""
