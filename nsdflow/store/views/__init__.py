"""Views of a store for notebooks: tables, pictures and a summary as HTML."""
