"""The words everyone shares: tables, protocols, plugins, metrics, runs, analyses, SQL and the command line."""

__version__ = "0.1.0"
