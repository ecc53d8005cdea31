"""Where a gallery keeps its rows."""
