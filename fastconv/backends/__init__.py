"""One module per backend; base.py says what a backend is."""
