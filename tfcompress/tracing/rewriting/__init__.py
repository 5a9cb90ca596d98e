"""What a format lacks or gets wrong, written with other operations that compute the same."""
