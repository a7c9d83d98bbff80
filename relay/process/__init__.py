"""What relay asks of its operating system: notifications to systemd, limits, name look-ups."""
