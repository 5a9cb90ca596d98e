"""What each layer is: its name, its kernels and their axes."""
