"""The programs in `scripts/`: their flags, and what they do with them."""
