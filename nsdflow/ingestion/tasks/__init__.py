"""Tasks of an ingestion and the records that they take; each task opens the files that it reads."""
