"""Where pixels come from and go to: arrays, and one module for each file format."""
