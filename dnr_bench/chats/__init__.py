"""Chat models: services and local language models, and the book of their answers."""
