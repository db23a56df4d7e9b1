"""A lane: its rings, its four workers, and what the gateway and a worker say to each other."""
