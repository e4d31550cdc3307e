"""Pictures from files to tensors: decoding, sizes, colours."""
