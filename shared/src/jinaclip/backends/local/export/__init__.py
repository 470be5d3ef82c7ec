"""Makes a folder for ONNX Runtime from a checkpoint: a graph a tower, compared with our own towers."""
