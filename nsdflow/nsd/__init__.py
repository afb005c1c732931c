"""The Natural Scenes Dataset as it is published: paths, design, responses, regions and images."""
