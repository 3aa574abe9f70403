"""One way of knowing a step's time a file."""
