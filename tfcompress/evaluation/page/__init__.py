"""What a report of `tfc.compare` says, section by section."""
