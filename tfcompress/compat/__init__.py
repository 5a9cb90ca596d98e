"""Other packages' names for what is done here."""
