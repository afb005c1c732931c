"""What a notebook shows of a store: tables, pictures and a summary as HTML."""
