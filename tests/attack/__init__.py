"""A campaign against the harness: kills, hostile values, files and servers, damage. `make attack` runs it."""
