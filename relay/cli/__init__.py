"""The command line: a module for each noun, and what they share."""
