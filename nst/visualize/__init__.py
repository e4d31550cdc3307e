"""What networks see: features, reconstructions, figures, measures."""
