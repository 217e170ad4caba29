"""The float graph and the quantized graph: values, executing and folding them."""
