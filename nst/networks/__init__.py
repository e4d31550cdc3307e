"""The networks that read the pictures: table, stacks, weights, precision, hardware."""
