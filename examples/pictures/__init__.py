"""What ``examples/make_pictures.py`` draws: one module for each part of the story."""
