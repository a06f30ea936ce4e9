"""What a training process prints: taken at its file descriptors, turned into numbered lines, kept in a journal of its own."""
