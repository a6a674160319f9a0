"""Several models at once on a package of chiplets: windows, segments, placement, and the independent check."""
