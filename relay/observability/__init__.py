"""How relay is doing: health, metrics, status, logs."""
