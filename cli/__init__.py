"""The command line of blurfast: thin commands over `blurfast.files`. Nothing else of the project knows click."""
