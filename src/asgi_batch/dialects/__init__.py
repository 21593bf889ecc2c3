"""How a batch is written on the wire: bytes to models and back, pure and in one pass."""
