"""Networks in files: state dicts that PyTorch reads and writes, and the formats of this project."""
