"""One run: its plan, its scales and steps, its checkpoints."""
