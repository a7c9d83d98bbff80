"""What every stand-in is made of: replies, faults, the control API, a listener."""
