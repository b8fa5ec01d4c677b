"""Files and threads: writing a file whole, reading ahead in order. Knows nothing of radiographs."""
