"""Language models as networks: architectures, weights from disk, tokenizers."""
