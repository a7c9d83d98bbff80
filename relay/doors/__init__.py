"""The two doors: hooks and health for the world, everything else for the operator."""
