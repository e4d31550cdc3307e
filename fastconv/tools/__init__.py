"""What the `fastconv` command offers: checks, benchmarks, filters, the demo."""
