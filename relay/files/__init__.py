"""Large files, piece by piece: fetched, unpacked and read without ever being whole in memory."""
