"""Candidate concepts from elsewhere: another method's labels, concepts that the user supplies."""
