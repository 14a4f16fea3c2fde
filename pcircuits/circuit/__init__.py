"""Units and their algebra, circuits and their properties."""
