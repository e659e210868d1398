"""The steps of a rating study: plan, build, serve, analyze."""
