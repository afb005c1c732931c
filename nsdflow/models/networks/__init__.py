"""Networks that turn images into feature maps, and the levels a receptive field pools over."""
