"""Features of images by the layers of any network, kept as labelled arrays (image, feature)."""
