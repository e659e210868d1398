"""Real language: what a summarizer makes of several people's words for one thing."""
