"""One command of the ground floor a file; each imports what is heavy when it runs."""
