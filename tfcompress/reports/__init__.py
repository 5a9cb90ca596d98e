"""How results are shown: tables, charts, pages, progress."""
