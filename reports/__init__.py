"""What was found: the typed report, its JSON, and the renderers that read it."""
