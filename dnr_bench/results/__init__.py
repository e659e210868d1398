"""What a run found, as one typed and versioned record, and runs compared."""
