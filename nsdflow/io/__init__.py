"""Files at a path or URL: written whole or not at all, read by byte range, listed."""
