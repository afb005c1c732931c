"""Networks, readouts and pooling fields, as torch modules and functions of tensors."""
