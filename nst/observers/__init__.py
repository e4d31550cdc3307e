"""What watches a run: progress, files, the profile."""
