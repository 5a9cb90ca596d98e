"""What a file is to compute with, decided before anything is converted."""
