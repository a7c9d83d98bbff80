"""Any other service over HTTP, and the files it serves."""
