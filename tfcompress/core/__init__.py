"""What every other room builds on: wrapper and transforms, arguments, files, devices, errors."""
