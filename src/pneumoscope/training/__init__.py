"""Recipe + labelled radiographs -> model file."""
