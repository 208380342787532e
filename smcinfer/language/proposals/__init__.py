"""How a next token is proposed: filters, companions, attributes, forced continuations."""
