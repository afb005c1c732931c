"""Writers of the files that NSD publishes, in its formats and layout."""
