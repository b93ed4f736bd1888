"""What a transformation is, and the engine that runs per-leaf rules over trees."""
