"""The model under attack: Keras models and plain functions, asked in the same way."""
