"""What is minimised: content, style and variation, as terms of one objective."""
