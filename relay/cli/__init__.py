"""The commands a person types: a module for each noun, and what they share."""
