"""One analysis a file: a trace in, tables out."""
