"""The small classifier and the 32 images that ship with advex."""
