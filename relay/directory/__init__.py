"""Keeping the directory current: from passing events, from files, and on a schedule."""
