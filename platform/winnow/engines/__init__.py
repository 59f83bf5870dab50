"""Language model engines behind one protocol."""
