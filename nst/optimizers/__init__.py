"""What moves the picture's pixels: Adam and L-BFGS."""
