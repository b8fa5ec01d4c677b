"""Model file + labelled radiographs -> report."""
