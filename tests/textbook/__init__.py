"""The scripts of the textbook: their conclusions, in numbers."""
