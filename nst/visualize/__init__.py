"""What networks respond to: features, reconstructions, figures, measures."""
