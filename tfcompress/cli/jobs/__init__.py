"""What each job does with its flags: one module for each."""
