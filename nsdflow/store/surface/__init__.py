"""Arrays on other spaces and on surfaces: behind the methods of ``DataArray.nsd``."""
