"""Networks whose neurons are described."""
