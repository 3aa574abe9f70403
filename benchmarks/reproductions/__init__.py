"""Reproductions of the papers: each module writes its page and figures under docs/papers/."""
