"""All public names; `tfcompress` has them from here."""
